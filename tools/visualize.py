"""Look inside detectors and data; each command writes pictures.

    python tools/visualize.py attention --run output/dino_r18_kitti picture.png

docs/visualization.md shows the commands and how to read their pictures.
"""

import argparse
import logging
import sys
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
from projects.clockdistill.engine.arguments import add_debug, one_line_errors
from projects.clockdistill.errors import UserError


def add_attention(commands: argparse._SubParsersAction) -> None:
    """Adds the options of `attention`."""
    parser = commands.add_parser("attention", help="where encoder and decoder look")
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="picture, folder or glob")
    parser.set_defaults(action=attention)


def attention(arguments: argparse.Namespace) -> None:
    """Draws attention maps."""
    raise UserError("not ready yet")


COMMANDS = (add_attention,)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    for command in commands.choices.values():
        add_debug(command)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    arguments = parse(argv)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("projects.clockdistill").setLevel(logging.INFO)
    with one_line_errors(arguments.debug):
        arguments.action(arguments)


if __name__ == "__main__":
    main()
