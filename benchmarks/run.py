"""Speed and memory compared with detrex, Hugging Face transformers, and the project's own parts.

    python benchmarks/run.py --against detrex --json benchmarks/results/detrex.json
    python benchmarks/run.py --against self --only dino_r50_floor distillation_300
    python benchmarks/run.py --against self --only dino_r50_floor --profile

The two sides of a pair are first found to compute the same, and then take turns, A B A B, in this
process; each peak of memory is taken in a new process. Ratios are taken round by round. Targets
hold for an otherwise idle machine. benchmarks/README.md says what each pair is.
"""

import argparse
import sys
from pathlib import Path

# as a script it has only benchmarks/ on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.opponents import OPPONENTS, check_importable
from benchmarks.pair import FULL, QUICK, Disagreement, Pair, Scale
from benchmarks.pairs import pairs_against
from benchmarks.report import environment, table, write_json
from projects.clockdistill.engine.arguments import (
    one_line_errors,
    positive_int,
    tool_parser,
)
from projects.clockdistill.errors import UserError


def add_measuring(parser: argparse.ArgumentParser, rounds: int) -> None:
    """Adds --json, --threads, --rounds (with its default) and --quick."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    parser.add_argument("--threads", type=positive_int, help="of torch; default: its own choice")
    parser.add_argument("--rounds", type=positive_int, default=rounds, help=f"default: {rounds}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")


def print_profile(pair: Pair, scale: Scale) -> None:
    """Prints the operators that one run of each side spends its time in."""
    for name, build in [("ours", pair.ours), *(("theirs", part) for part in pair.theirs)]:
        run_once = build(scale)
        run_once()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            run_once()
        print(f"{pair.name}, {name}:")
        print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=20))


def run(arguments: argparse.Namespace) -> None:
    """Measures, prints and writes."""
    pairs = pairs_against(arguments.against, arguments.only)
    check_importable(arguments.against)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    scale = QUICK if arguments.quick else FULL
    found = environment(arguments.against)  # before our own work raises the machine's load
    measured, refused = [], {}
    for pair in pairs:
        if arguments.profile:
            print_profile(pair, scale)
            continue
        print(f"measuring: {pair.name}", flush=True)
        try:
            measured.append(pair.measure(scale, arguments.rounds))
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
        print("", table(measured), sep="\n")
    print("", found, sep="\n")
    if arguments.quick:
        print("--quick: tiny sizes, for which the targets do not hold")
    if refused:
        raise UserError(f"{len(refused)} of {len(pairs)} pairs were refused, as printed above")


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument("--against", choices=OPPONENTS, required=True)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="pairs; default: all")
    parser.add_argument("--profile", action="store_true", help="list operators, measure nothing")
    add_measuring(parser, rounds=7)
    arguments = parser.parse_args(argv)
    with one_line_errors(arguments.debug):
        run(arguments)


if __name__ == "__main__":
    main()
