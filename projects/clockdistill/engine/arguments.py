"""Types of command-line options."""

import argparse


def positive_int(text: str) -> int:
    """Returns a whole number that is at least 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return int(text)
