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
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from projects.clockdistill.deployment.inputs import find_inputs
from projects.clockdistill.deployment.results import require_folder
from projects.clockdistill.engine.arguments import add_debug, one_line_errors, positive_int
from projects.clockdistill.errors import UserError
from projects.clockdistill.visualization.attention_images import (
    draw_image,
    load_detectors,
    output_files,
)
from projects.clockdistill.visualization.attention_subjects import View

logger = logging.getLogger("projects.clockdistill.visualize")


def add_attention(commands: argparse._SubParsersAction) -> None:
    """Adds the options of `attention`."""
    parser = commands.add_parser(
        "attention",
        help="where encoder and decoder look",
        description="Attention maps and sampling points of detectors, side by side. Layers, heads, "
        "levels, detections and queries are counted from 1.",
    )
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--run", metavar="DIR", help="run folder: its detector, and its teacher")
    sources.add_argument("--config-file", metavar="FILE", help="config, with --weights")
    parser.add_argument("--weights", metavar="FILE", help="weights of the config's detector")
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        type=_titled,
        metavar="TITLE=DIR",
        help="a further run folder to show next to it; may be repeated",
    )
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="picture, folder or glob")
    parser.add_argument("--output", type=Path, default=Path("attention"), metavar="DIR")
    parser.add_argument("--threshold", type=_score, metavar="SCORE", help="lowest score: 0.5")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--detection", type=positive_int, metavar="N", help="one, by falling score")
    what.add_argument("--query", type=positive_int, metavar="N", help="one query of the decoder")
    what.add_argument(
        "--point", dest="point_px", type=_point, metavar="X,Y", help="encoder: from these pixels"
    )
    what.add_argument("--features", action="store_true", help="energy of neck and memory instead")
    parser.add_argument("--layer", type=_layer, metavar="N|all", help="default: the last")
    parser.add_argument("--head", type=positive_int, metavar="N", help="default: mean of all")
    parser.add_argument("--level", type=positive_int, metavar="N", help="default: all together")
    parser.add_argument("--each", choices=["layer", "head", "level"], help="a map for each of them")
    parser.add_argument(
        "--draw", choices=["both", "map", "points"], help="default: both; map with --each"
    )
    parser.add_argument("--device", help="of torch; default: an accelerator, or the CPU")
    parser.set_defaults(action=attention)


def _titled(text: str) -> tuple[str, str]:
    title, _, folder = text.partition("=")
    if not title or not folder:
        raise argparse.ArgumentTypeError(f"{text}: expected TITLE=DIR")
    return title, folder


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a score, expected 0 to 1")
    return score


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = map(float, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: expected X,Y in pixels") from error
    return x, y


def _layer(text: str) -> int:
    return 0 if text == "all" else positive_int(text)


def attention(arguments: argparse.Namespace) -> None:
    """Draws attention maps, or energy maps, of all inputs."""
    if (arguments.config_file is None) != (arguments.weights is None):
        raise UserError("--config-file and --weights belong together. Fix: give both, or --run")
    given = {name: getattr(arguments, name) for name in ("layer", "head", "draw")}
    is_given = any(value is not None for value in given.values())
    if arguments.features and (is_given or arguments.each in ("layer", "head")):
        raise UserError("--features has neither layers nor heads. Fix: use --level or --each level")
    if arguments.each is not None and getattr(arguments, arguments.each) is not None:
        raise UserError(f"--each {arguments.each} draws all of them. Fix: leave out one of both")
    inputs = find_inputs(arguments.inputs)
    what = {name: getattr(arguments, name) for name in vars(View()) if name != "threshold"}
    outputs = output_files(arguments.output, inputs, what, features=arguments.features)
    require_folder(arguments.output)
    detectors = load_detectors(
        arguments.run or arguments.config_file,
        arguments.weights,
        compared=arguments.compare,
        device=arguments.device,
    )
    if arguments.threshold is not None:
        what["threshold"] = arguments.threshold
    else:
        what["threshold"] = detectors[0].spec.threshold
    what["draw"] = arguments.draw or ("map" if arguments.each else "both")
    view = View(**what)
    failed = 0
    with logging_redirect_tqdm(), tqdm(inputs, "files", unit="file", disable=None) as files:
        for item, path in zip(files, outputs, strict=True):
            try:
                rows = draw_image(detectors, view, item, path, features=arguments.features)
            except (OSError, ValueError) as error:
                if len(inputs) == 1:
                    raise
                named = str(item.path) in str(error)
                logger.error("%s", error if named else f"{item.path}: {error}")
                failed += 1
                continue
            tqdm.write(str(path))
            for row in rows:
                for panel in row.panels:
                    tqdm.write(f"  {panel.title.replace(chr(10), '; ')}")
    if failed:
        raise UserError(f"{failed} of {len(inputs)} files could not be used; see above")


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
