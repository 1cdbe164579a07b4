"""Write the report of a run again, or compare runs on one page.

    python tools/report.py output/dino_r18_kitti
    python tools/report.py output/demo/undistilled output/demo/distilled --output comparison.html

One run: report.html in its folder, as at the end of training; also of a run that was interrupted.
Several: a page that shows them side by side, with differences to the first.
"""

import argparse
import logging
import sys
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
from projects.clockdistill.engine.arguments import one_line_errors, tool_parser
from projects.clockdistill.errors import UserError
from projects.clockdistill.report.page import write_comparison, write_report
from projects.clockdistill.report.run import REPORT


def report(runs: list[Path], output: Path | None) -> Path:
    """Writes the page and returns its path."""
    if output is not None and output.is_dir():
        raise UserError(f"--output {output} is a folder. Fix: name a file, as {output / REPORT}")
    if len(runs) == 1:
        return write_report(runs[0], output=output)
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("a run is named twice. Fix: name each run once")
    path = output or Path("comparison.html")
    write_comparison(runs, path)
    return path


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="train.output_dir")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="default: report.html in the folder of the run; of several, comparison.html here",
    )
    arguments: argparse.Namespace = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s")
    with one_line_errors(arguments.debug):
        print(report(arguments.runs, arguments.output))


if __name__ == "__main__":
    main()
