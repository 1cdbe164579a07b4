"""Check the training and validation data of any config and print what it contains.

    python datasets/check.py --config-file projects/clockdistill/configs/dino_r18_kitti.py
    python datasets/check.py --config-file ... --decode [key=value ...]

The same check runs before every training. The exit code is 1 if the data has a problem.
"""

import argparse
import sys

import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill.engine.arguments import one_line_errors, tool_parser
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.data_check import inspect_data


def check(arguments: argparse.Namespace) -> int:
    """Prints tables, warnings and errors, and returns the exit code."""
    cfg = load_config(arguments.config_file, arguments.opts)
    report = inspect_data(cfg, eval_only=False, decode=arguments.decode)
    for part in report.parts.values():
        print(part.table, end="\n\n")
    for warning in report.all_warnings:
        print(f"warning: {warning}")
    for error in report.errors:
        print(error, file=sys.stderr)
    print(f"{len(report.errors)} problems" if report.errors else "no problems")
    return 1 if report.errors else 0


def main(argv: list[str] | None = None) -> int:
    """Runs the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--decode", action="store_true", help="decode every image (slow)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="key=value", help="overrides")
    arguments = parser.parse_args(argv)
    with one_line_errors(arguments.debug):
        return check(arguments)


if __name__ == "__main__":
    sys.exit(main())
