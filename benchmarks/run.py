"""Speed and memory compared with detrex, Hugging Face transformers, and the project's own parts.

    python benchmarks/run.py --against detrex --json benchmarks/results/detrex.json
    python benchmarks/run.py --against self --only dino_r50_floor distillation_300

The two sides of a pair are first found to compute the same, and then take turns, A B A B, in this
process; each peak of memory is taken in a new process. Ratios are taken round by round. Targets
hold for an otherwise idle machine. benchmarks/README.md says what each pair is.
"""

import argparse
import sys
from pathlib import Path

# as a script it has only benchmarks/ on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
import torch

from benchmarks.opponents import OPPONENTS, check_importable
from benchmarks.pair import Disagreement
from benchmarks.pairs import pairs_against
from benchmarks.report import describe, environment, table, write_json
from benchmarks.scale import FULL, QUICK
from projects.clockdistill.engine.arguments import positive_int


def add_measuring(parser: argparse.ArgumentParser, rounds: int) -> None:
    """Adds --json, --threads, --rounds (with its default) and --quick."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    parser.add_argument("--threads", type=positive_int, help="of torch; default: its own choice")
    parser.add_argument("--rounds", type=positive_int, default=rounds, help=f"default: {rounds}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", choices=OPPONENTS, required=True)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="pairs; default: all")
    add_measuring(parser, rounds=7)
    arguments = parser.parse_args(argv)
    try:
        pairs = pairs_against(arguments.against, arguments.only)
        check_importable(arguments.against)
    except (ImportError, ValueError) as error:
        sys.exit(f"run: {error}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found = environment(arguments.against)  # before our own work raises the machine's load
    measured, refused = [], {}
    for pair in pairs:
        print(f"measuring: {pair.name}", flush=True)
        try:
            measured.append(pair.measure(QUICK if arguments.quick else FULL, arguments.rounds))
            print(f"checked: {measured[-1]['facts']}", flush=True)
        except Disagreement as error:
            refused[pair.name] = str(error)
            print(f"refused: {error}", flush=True)
        if arguments.json is not None:  # after each pair: a run takes long
            content = {
                "against": arguments.against,
                "settings": {"rounds": arguments.rounds, "quick": arguments.quick},
                "environment": found,
                "pairs": measured,
                "refused": refused,
            }
            write_json(arguments.json, content)
    if measured:
        print("", table(measured), "", describe(found), sep="\n")
    if arguments.quick:
        print("--quick: tiny sizes, for which the targets do not hold")
    if refused:
        sys.exit(f"run: {len(refused)} of {len(pairs)} pairs were refused, as printed above")


if __name__ == "__main__":
    main()
