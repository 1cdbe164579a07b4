"""How the time of a training step grows: with tokens, queries, objects per image, and images.

    python benchmarks/growth.py --json benchmarks/results/growth.json \
        --plot benchmarks/results/growth.png

DINO R18 on drawn images. Exponents are fitted to the upper half of each axis; 1 is proportional.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    # As a script it finds benchmarks/ on the path, whose profile.py would hide Python's own.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
from tabulate import tabulate

from benchmarks.command_line import add_measuring, write_json
from benchmarks.growth_axes import Growth, axes, measure_growth
from benchmarks.growth_picture import save_growth
from benchmarks.part_clock import PARTS, STEP
from benchmarks.report import described, environment


def table(growths: list[Growth]) -> str:
    """Exponents, and in brackets the part's share of the step at the largest value."""
    rows = []
    for part in (STEP, *PARTS):
        cells = [f"{g.exponent(part):.2f} ({g.share(part)[-1]:.0%})" for g in growths]
        rows.append([part, *cells])
    headers = ["exponent (share)", *(_header(growth) for growth in growths)]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _header(growth: Growth) -> str:
    values = growth.axis.values[growth.upper]
    return f"{growth.axis.name}, {values[0]:,} to {values[-1]:,}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where to write the picture")
    add_measuring(parser, rounds=3, warmup=1)
    arguments = parser.parse_args(argv)
    found = environment()
    growths = []
    for axis in axes(arguments.quick):
        print(f"measuring: {axis.name}", flush=True)
        growths.append(measure_growth(axis, arguments.warmup, arguments.rounds))
    print("", table(growths), "", *(growth.matching() for growth in growths), sep="\n")
    print(described(found))
    if arguments.json is not None:
        content = {
            "rounds": arguments.rounds,
            "quick": arguments.quick,
            "environment": found,
            "growth": [growth.as_json() for growth in growths],
        }
        write_json(arguments.json, content)
    if arguments.plot is not None:
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        save_growth(arguments.plot, f"a training step of DINO R18: {found['machine']}", growths)


if __name__ == "__main__":
    main()
