"""Look inside detectors and data; each command writes pictures.

    python tools/visualize.py attention --run output/dino_r18_kitti picture.png
    python tools/visualize.py detections --run output/dino_r18_kitti
    python tools/visualize.py data --config-file projects/clockdistill/configs/dino_r18_kitti.py

docs/visualization.md shows the commands and how to read their pictures.
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from projects.clockdistill.analysis import data_pictures, detection_pictures
from projects.clockdistill.analysis.run_detections import (
    EvaluationData,
    run_detections,
    teacher_detections,
)
from projects.clockdistill.data.statistics import statistics_table
from projects.clockdistill.deployment.inputs import find_inputs
from projects.clockdistill.deployment.loading import choose_device, run_config
from projects.clockdistill.deployment.results import require_folder
from projects.clockdistill.engine.arguments import (
    add_debug,
    one_line_errors,
    positive_int,
    score,
    tool_parser,
)
from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.weights import CheckpointError
from projects.clockdistill.errors import UserError
from projects.clockdistill.evaluation.diagnosis import errors_by_image
from projects.clockdistill.visualization.attention.images import (
    draw_image,
    load_detectors,
    output_files,
)
from projects.clockdistill.visualization.attention.subjects import View

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
    _add_compare(parser)
    parser.add_argument("inputs", nargs="+", metavar="IMAGE", help="picture, folder or glob")
    parser.add_argument(
        "--output", type=Path, default=Path("attention"), metavar="DIR", help="default: attention"
    )
    parser.add_argument("--threshold", type=score, metavar="SCORE", help="lowest score: 0.5")
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
    parser.add_argument("--each", choices=["layer", "head", "level"], help="one map for each")
    parser.add_argument(
        "--draw", choices=["both", "map", "points"], help="default: both; map with --each"
    )
    parser.add_argument("--device", help="of torch; default: an accelerator, or the CPU")
    parser.set_defaults(action=attention)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        type=_titled,
        metavar="TITLE=DIR",
        help="a further run folder to show next to it; may be repeated",
    )


def _titled(text: str) -> tuple[str, str]:
    title, _, folder = text.partition("=")
    if not title or not folder:
        raise argparse.ArgumentTypeError(f"{text}: expected TITLE=DIR")
    return title, folder


def _refuse_equal(titles: Iterable[str]) -> None:
    title, number = Counter(titles).most_common(1)[0]
    if number > 1:
        raise UserError(f"--compare: two columns are called {title}. Fix: use another title")


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
    _refuse_equal(detector.title for detector in detectors)
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


def add_data(commands: argparse._SubParsersAction) -> None:
    """Adds the options of `data`."""
    parser = commands.add_parser(
        "data",
        help="augmented images, and statistics of the splits",
        description="What the trainer sees: the images of the first steps with their boxes, and "
        "statistics of both splits. Datasets are checked as before training.",
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="as in train_net.py")
    parser.add_argument("--images", type=positive_int, default=16, metavar="N", help="drawn: 16")
    parser.add_argument(
        "--output", type=Path, default=Path("data_check"), metavar="DIR", help="default: data_check"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY=VALUE", help="overrides of the config")
    parser.set_defaults(action=data)


def data(arguments: argparse.Namespace) -> None:
    """Draws what the trainer sees."""
    cfg = load_config(arguments.config_file, arguments.opts)
    require_folder(arguments.output)
    found = data_pictures.load_training_data(cfg)
    splits = found.splits()
    print(statistics_table(splits, found.class_names, found.queries))
    for warning in found.warnings:
        print(f"warning: {warning}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    statistics = arguments.output / "statistics.png"
    data_pictures.save_statistics(statistics, splits, found)
    drawn = data_pictures.training_pictures(found, arguments.images)
    path = arguments.output / "train_images.png"
    files = data_pictures.save_training_pictures(path, drawn, found)
    print(f"statistics of the splits: {statistics}")
    print(f"{len(drawn)} training images: {', '.join(map(str, files))}")


def add_detections(commands: argparse._SubParsersAction) -> None:
    """Adds the options of `detections`."""
    parser = commands.add_parser(
        "detections",
        help="what a student finds and misses",
        description="Ground truth, teacher and student side by side, where the student misses "
        "most objects: hits, misses, false alarms and wrong classes.",
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="run folder of the student")
    _add_compare(parser)
    parser.add_argument("--images", type=positive_int, default=12, metavar="N", help="drawn: 12")
    parser.add_argument(
        "--threshold",
        type=score,
        default=0.5,
        metavar="SCORE",
        help="lowest that counts: 0.5",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("detections"), metavar="DIR", help="default: detections"
    )
    parser.add_argument("--device", help="of torch; default: an accelerator, or the CPU")
    parser.add_argument("opts", nargs="*", metavar="KEY=VALUE", help="overrides of its config")
    parser.set_defaults(action=detections)


def detections(arguments: argparse.Namespace) -> None:
    """Draws ground truth and detections where the student misses most."""
    device = choose_device(arguments.device)
    require_folder(arguments.output)
    for _, folder in arguments.compare:
        run_config(folder)  # refuses it before anything runs
    data = EvaluationData.of(run_config(arguments.run, arguments.opts))
    own = ["student", "teacher"] if "teacher" in data.cfg.model else ["student"]
    _refuse_equal([*own, *(title for title, _ in arguments.compare)])
    names = {category: data.class_names[label] for label, category in data.category_ids.items()}

    def errors(found: list[dict]) -> dict:
        return errors_by_image(data.ground_truth, found, names, arguments.threshold)

    student = errors(run_detections(arguments.run, data, list(data.records), device))
    shown = detection_pictures.hardest_images(student, arguments.images)
    columns = {}
    if "teacher" in data.cfg.model:
        try:
            columns["teacher"] = errors(teacher_detections(data, shown, device))
        except CheckpointError as error:
            logger.warning("no column of the teacher: %s", error)
    for title, folder in arguments.compare:
        columns[title] = errors(run_detections(folder, data, shown, device))
    columns["student"] = student
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "detections.png"
    files = detection_pictures.save_detection_pictures(path, data, columns, shown)
    print(f"all {len(student)} images, detections of score {arguments.threshold:g} or more:")
    print(detection_pictures.counts_table({"student": student}, list(student)))
    print(f"the {len(shown)} images where the student misses most:")
    print(detection_pictures.counts_table(columns, shown))
    print(", ".join(map(str, files)))


COMMANDS = (add_attention, add_data, add_detections)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = tool_parser(__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    for command in commands.choices.values():
        add_debug(command, default=argparse.SUPPRESS)  # keeps one that comes before the command
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
