"""How fast the project is beside detrex, Hugging Face transformers, and its own parts.

    python benchmarks/run.py --against detrex --json benchmarks/results/detrex.json
    python benchmarks/run.py --against self --only dino_r50_floor distillation_300

Both sides of a pair take turns, A B A B, in this process, after they were found to compute the
same; peaks of memory are taken in processes of their own. Ratios are taken round by round. Targets
hold for an otherwise idle machine. benchmarks/README.md says what each pair is.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    # As a script it finds benchmarks/ on the path, whose profile.py would hide Python's own.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
from benchmarks.command_line import add_measuring, write_json
from benchmarks.opponents import detrex, pycocotools, transformers
from benchmarks.outcome import Outcome, measure
from benchmarks.pair import OPPONENTS, Against, Disagreement, Pair
from benchmarks.pairs import pairs_against
from benchmarks.report import as_json, described, details, environment, table
from benchmarks.scale import FULL, QUICK, Scale

CHECKS: dict[Against, Callable[[], None]] = {
    "self": pycocotools.check_importable,
    "detrex": detrex.check_importable,
    "transformers": transformers.check_importable,
}


def run_all(
    pairs: Sequence[Pair],
    scale: Scale,
    warmup: int,
    rounds: int,
    keep: Callable[[list[Outcome], dict[str, str]], None],
) -> tuple[list[Outcome], dict[str, str]]:
    """Measures pair after pair.

    Args:
        pairs: in order.
        scale: how large.
        warmup: rounds that do not count.
        rounds: rounds that count.
        keep: called after each pair with what is returned in the end.

    Returns:
        What was measured, and by a pair's name why it was refused.
    """
    outcomes: list[Outcome] = []
    refused: dict[str, str] = {}
    for pair in pairs:
        print(f"measuring: {pair.name}", flush=True)
        try:
            outcomes.append(measure(pair, scale, warmup, rounds))
            print(details(outcomes[-1]), flush=True)
        except Disagreement as error:
            refused[pair.name] = str(error)
            print(f"refused: {error}", flush=True)
        keep(outcomes, refused)
    return outcomes, refused


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", choices=OPPONENTS, required=True)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="pairs; default: all")
    add_measuring(parser, rounds=7, warmup=2)
    arguments = parser.parse_args(argv)
    try:
        pairs = pairs_against(arguments.against, arguments.only)
        CHECKS[arguments.against]()
    except (ImportError, ValueError) as error:
        sys.exit(f"run: {error}")
    found = environment(arguments.against)  # before our own work raises the machine's load
    settings = {name: getattr(arguments, name) for name in ("rounds", "warmup", "quick")}

    def keep(outcomes: list[Outcome], refused: dict[str, str]) -> None:
        if arguments.json is not None:
            content = as_json(arguments.against, settings, found, outcomes, refused)
            write_json(arguments.json, content)

    scale = QUICK if arguments.quick else FULL
    outcomes, refused = run_all(pairs, scale, arguments.warmup, arguments.rounds, keep)
    if outcomes:
        print("", table(outcomes), "", described(found), sep="\n")
    if arguments.quick:
        print("--quick: tiny sizes, on which no target says anything")
    if refused:
        sys.exit(f"run: {len(refused)} of {len(pairs)} pairs were refused, see above")


if __name__ == "__main__":
    main()
