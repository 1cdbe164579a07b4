"""Look inside detectors and data; each command writes pictures.

    python tools/visualize.py attention --run output/dino_r18_kitti picture.png

docs/visualization.md shows the commands and how to read their pictures.
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
from torch import nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from projects.clockdistill.deployment.images import detector_input, read_image
from projects.clockdistill.deployment.inputs import Input, find_inputs, require_one_picture
from projects.clockdistill.deployment.loading import (
    choose_device,
    find_run,
    load_detector,
    load_teacher_detector,
)
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.deployment.predictor import EXPORTED
from projects.clockdistill.deployment.results import require_folder
from projects.clockdistill.engine.arguments import add_debug, one_line_errors, positive_int
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.errors import UserError
from projects.clockdistill.visualization.attention import (
    Column,
    View,
    attention_rows,
    feature_rows,
)
from projects.clockdistill.visualization.attention_figure import save_figure
from projects.clockdistill.visualization.attention_reading import adapter_of, read

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
    parser.add_argument("--threshold", type=float, metavar="SCORE", help="lowest score: 0.5")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--detection", type=positive_int, metavar="N", help="one, by falling score")
    what.add_argument("--query", type=positive_int, metavar="N", help="one query of the decoder")
    what.add_argument("--point", type=_point, metavar="X,Y", help="encoder: from these pixels")
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


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = map(float, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: expected X,Y in pixels") from error
    return x, y


def _layer(text: str) -> int:
    return 0 if text == "all" else positive_int(text)


@dataclass(frozen=True)
class Detector:
    """A detector of the figures: its title, the model in eval mode, and its spec."""

    title: str
    model: nn.Module
    spec: ModelSpec


def load_detectors(arguments: argparse.Namespace) -> list[Detector]:
    """Loads what the command line names: a run's detector, its teacher, further runs."""
    device = choose_device(arguments.device)
    if arguments.run is not None and Path(arguments.run).suffix in EXPORTED:
        raise UserError(
            f"--run {arguments.run}: an exported file does not tell where it looks.\n"
            "Fix: name the folder of the run that it was exported from"
        )
    if arguments.run is not None:
        cfg, weights = find_run(arguments.run)
    else:
        cfg, weights = load_config(arguments.config_file, []), arguments.weights
    source = Path(arguments.run or arguments.config_file)
    title = "student" if "student" in cfg.get("model", {}) else source.resolve().stem
    found = [Detector(title, *load_detector(cfg, weights, device))]
    teacher = load_teacher_detector(cfg, device)
    if teacher is not None:
        found.append(Detector("teacher", *teacher))
    for name, folder in arguments.compare:
        found.append(Detector(name, *load_detector(*find_run(folder), device)))
    for detector in found:
        adapter_of(detector.model)  # refuses those of other classes before any image is read
    return found


def attention_outputs(arguments: argparse.Namespace, inputs: Sequence[Input]) -> list[Path]:
    """Returns the picture file of each input.

    Raises:
        UserError: if an input is a video, or would be replaced.
    """
    suffix = "features" if arguments.features else "attention"
    for name in ("detection", "query", "layer", "head", "level", "each"):
        value = getattr(arguments, name)
        if value is not None:
            suffix += f"_{name}_{value or 'all'}"
    if arguments.point is not None:
        suffix += "_point_{:g}_{:g}".format(*arguments.point)
    stems = Counter(Path(item.name).with_suffix("") for item in inputs)
    outputs = []
    for item in inputs:
        if item.is_video:
            raise UserError(f"{item.path} is a video. Fix: name pictures, such as its frames")
        stem = Path(item.name).with_suffix("")
        name = stem if stems[stem] == 1 else item.name
        outputs.append(arguments.output / f"{name}_{suffix}.png")
    for path in outputs:
        if path.resolve() in {item.path.resolve() for item in inputs}:
            raise UserError(f"{path} is an input and would be replaced. Fix: another --output")
    return outputs


def draw_attention(
    detectors: Sequence[Detector], view: View, item: Input, path: Path, *, features: bool
) -> None:
    """Draws one image's figure and prints what it shows."""
    require_one_picture(item.path)
    image = read_image(item.path)
    columns = []
    for one in detectors:
        inputs = [detector_input(image, one.spec.input_size(*image.shape[:2]))]
        columns.append(Column(one.title, one.spec.class_names, read(one.model, inputs)))
    make_rows = feature_rows if features else attention_rows
    rows = make_rows(columns, view, image.shape[:2])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(path, item.name, image, rows)
    print(path)
    for row in rows:
        for panel in row.panels:
            print(f"  {panel.title.replace(chr(10), '; ')}")


def attention(arguments: argparse.Namespace) -> None:
    """Draws attention maps, or energy maps, of all inputs."""
    inputs = find_inputs(arguments.inputs)
    outputs = attention_outputs(arguments, inputs)
    require_folder(arguments.output)
    detectors = load_detectors(arguments)
    threshold = arguments.threshold
    view = View(
        threshold=detectors[0].spec.threshold if threshold is None else threshold,
        detection=arguments.detection,
        query=arguments.query,
        point_px=arguments.point,
        layer=arguments.layer,
        head=arguments.head,
        level=arguments.level,
        each=arguments.each,
        draw=arguments.draw or ("map" if arguments.each else "both"),
    )
    failed = 0
    with logging_redirect_tqdm(), tqdm(inputs, "files", unit="file", disable=None) as files:
        for item, path in zip(files, outputs, strict=True):
            try:
                draw_attention(detectors, view, item, path, features=arguments.features)
            except (OSError, ValueError) as error:
                if len(inputs) == 1:
                    raise
                named = str(item.path) in str(error)
                logger.error("%s", error if named else f"{item.path}: {error}")
                failed += 1
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
