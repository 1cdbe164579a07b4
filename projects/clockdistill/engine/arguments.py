"""What the command lines of all tools share: option types, `--debug` and errors in one line."""

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from projects.clockdistill.errors import UserError

INTERRUPTED = 130  # exit code of a program that Ctrl-C ends


def positive_int(text: str) -> int:
    """Returns a whole number that is at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number of at least 1")
    return number


def score(text: str) -> float:
    """Returns a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a score from 0 to 1")
    return value


def tool_parser(description: str, **kwargs: object) -> argparse.ArgumentParser:
    """Returns a parser with `--debug`, for `one_line_errors`.

    Args:
        description: docstring of the tool; the help shows its first line.
        **kwargs: further arguments of `argparse.ArgumentParser`.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0], **kwargs)
    add_debug(parser)
    return parser


def add_debug(parser: argparse.ArgumentParser, **kwargs: object) -> None:
    """Adds `--debug` to a parser; keyword arguments are those of `add_argument`."""
    text = "show the traceback of any error"
    parser.add_argument("--debug", action="store_true", help=text, **kwargs)


@contextmanager
def one_line_errors(debug: bool, interrupted: str = "interrupted") -> Iterator[None]:
    """Ends the program with "error: ..." and exit code 1 where the user can fix what went wrong.

    Any other exception is a fault of the program and keeps its traceback.

    Args:
        debug: `--debug`; every exception keeps its traceback.
        interrupted: what Ctrl-C prints.
    """
    try:
        yield
    except KeyboardInterrupt:
        if debug:
            raise
        print(f"\n{interrupted}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug or not is_users_to_fix(error):
            raise
        sys.exit(f"error: {message(error)}")


def is_users_to_fix(error: BaseException) -> bool:
    """Returns whether the message of an exception is all that a user needs.

    That holds for every `UserError` and every other message that names a fix, as those of models
    do; for losses that are not finite, for too little memory, and for what the operating system
    refuses (a full disk, a missing file).
    """
    if isinstance(error, UserError | FloatingPointError | torch.OutOfMemoryError):
        return True
    if isinstance(error, FileNotFoundError) or getattr(error, "errno", None) is not None:
        return True
    return isinstance(error, ValueError | RuntimeError | OSError) and "Fix: " in str(error)


def message(error: BaseException) -> str:
    """Returns the message of an exception, without the traceback that a data worker adds."""
    text = str(error)
    if "Original Traceback" in text:
        # torch's ExceptionWrapper: the traceback ends with "module.Class: message"
        text = re.split(rf"^(?:[\w.]+\.)?{type(error).__name__}: ", text, flags=re.MULTILINE)[-1]
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"{text.splitlines()[0]}\nFix: lower dataloader.train.total_batch_size, or split the "
            "batch with train.accumulate_steps"
        )
    return text.strip() or type(error).__name__
