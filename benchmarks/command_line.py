"""What the command lines of the benchmarks share."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from projects.clockdistill.engine.atomic import atomic_write


def count(text: str) -> int:
    """A whole number of the command line, at least 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return int(text)


def add_measuring(parser: argparse.ArgumentParser, rounds: int, warmup: int) -> None:
    """Adds --json, --threads, --rounds, --warmup and --quick.

    Args:
        parser: to extend.
        rounds: default.
        warmup: default.
    """
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    parser.add_argument(
        "--threads", type=_use_threads, help="of torch; default: what torch chooses"
    )
    parser.add_argument(
        "--rounds", type=count, default=rounds, help=f"rounds that count; default: {rounds}"
    )
    parser.add_argument(
        "--warmup", type=count, default=warmup, help=f"rounds before; default: {warmup}"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: proves that it runs")


def _use_threads(text: str) -> int:
    threads = count(text)
    torch.set_num_threads(threads)
    return threads


def write_json(path: Path, content: Any) -> None:
    """Writes a file, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as handle:
        handle.write(json.dumps(content, indent=2) + "\n")
