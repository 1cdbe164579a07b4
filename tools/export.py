"""Write a detector as ONNX, OpenVINO or torch's exported program, and prove that it is the same.

    python tools/export.py --run output/dino_r18_kitti --format onnx --output student.onnx
    python tools/export.py --config-file C --weights W --format openvino --output student.xml

Of a distillation config the student is exported. The file is run on validation images and compared
with the checkpoint; a file that differs is deleted. docs/deploy.md describes inputs, outputs and
limits. Any key of the config can be overridden at the end of the line.
"""

import argparse
import dataclasses
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # before detectron2: silences a warning of its import

# isort: split
from detectron2.config import instantiate
from detectron2.evaluation import inference_on_dataset
from omegaconf import DictConfig
from tabulate import tabulate

import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill.deployment.export import PACKAGES, SUFFIXES, convert, save
from projects.clockdistill.deployment.imports import import_extra
from projects.clockdistill.deployment.loading import find_run, load_detector
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.deployment.parity import LIMITS, NOISE, Parity, measure
from projects.clockdistill.deployment.results import require_folder
from projects.clockdistill.deployment.runtimes import (
    ExportedDetector,
    GraphInfo,
    metadata,
    open_model,
    pad,
)
from projects.clockdistill.deployment.samples import (
    common_size,
    dataset_images,
    fitted,
    noise_images,
    require_upright,
)
from projects.clockdistill.engine.arguments import (
    one_line_errors,
    positive_int,
    tool_parser,
)
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.data_check import check_data
from projects.clockdistill.engine.data_config import dataset_names
from projects.clockdistill.engine.evaluate import build_evaluators
from projects.clockdistill.modeling.detectors.base import Detector

logger = logging.getLogger("projects.clockdistill.export")

IMAGES = 32  # compared with the checkpoint
CALIBRATION_IMAGES = 128  # of the training set, for int8
LARGEST_LOSS = 1.0  # of AP by int8


def check(arguments: argparse.Namespace) -> None:
    """Refuses options that do not fit together, before any work."""
    suffix = SUFFIXES[arguments.format]
    if arguments.output.suffix != suffix:
        raise ConfigError(
            f"--output {arguments.output}: expected a name that ends in {suffix} for --format "
            f"{arguments.format}"
        )
    if bool(arguments.config_file) != bool(arguments.weights):
        raise ConfigError("found one of --config-file and --weights. Fix: give both, or --run")
    if (arguments.height is None) != (arguments.width is None):
        raise ConfigError("found one of --height and --width. Fix: give both or none")
    if arguments.format == "exported-program" and arguments.precision != "fp32":
        raise ConfigError(
            f"--precision {arguments.precision} needs ONNX or OpenVINO. Fix: use --format onnx, or "
            "--precision fp32"
        )
    for name in PACKAGES[arguments.format]:
        import_extra(name)
    check_output(arguments.output)


def check_output(output: Path) -> None:
    """Refuses an output that cannot be written, or that would replace what is no earlier export."""
    require_folder(output.parent)
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder. Fix: name a file")
    weights = output.with_suffix(".bin")  # of OpenVINO
    if output.suffix == ".xml" and weights.exists() and not output.exists():
        raise ConfigError(
            f"--output {output} would replace {weights}, which belongs to no {output.name}.\n"
            "Fix: choose another name"
        )


def has_data(cfg: DictConfig, arguments: argparse.Namespace) -> bool:
    """Returns whether there are validation images; their lack must be allowed."""
    try:
        check_data(cfg, eval_only=arguments.precision != "int8").log()
    except ConfigError as error:
        if arguments.allow_random and not arguments.evaluate and arguments.precision != "int8":
            return False
        raise ConfigError(
            f"{error}\nThe comparison with the checkpoint, --evaluate and int8 need images. To "
            "compare on random noise instead: --allow-random with --height and --width"
        ) from error
    return True


def choose_size(
    cfg: DictConfig, spec: ModelSpec, arguments: argparse.Namespace, with_data: bool
) -> tuple[int, int]:
    """Returns height and width of the file's images."""
    given = arguments.height, arguments.width
    if not with_data:
        if None in given:
            raise ConfigError(
                "the size of the images is unknown without data. Fix: add --height and --width"
            )
        return given
    height, width = common_size(cfg.dataloader.test.dataset, spec)
    if None in given:
        print(f"size: {height} x {width}, which holds every image of the validation set, resized")
        return height, width
    require_upright(cfg.dataloader.test.dataset, spec, *given)
    if given[0] < height or given[1] < width:
        logger.warning(
            "--height %d --width %d: the validation images are up to %d x %d after resizing; "
            "larger ones are shrunk to fit",
            *given,
            height,
            width,
        )
    return given


def describe(parity: Parity, source: str) -> str:
    """Returns on how many images of which source a file was compared."""
    text = f"{parity.images} images of {source}"
    return f"{text}, {parity.left_out} unstable ones left out" if parity.left_out else text


def show_parity(parity: Parity, precision: str, title: str) -> None:
    """Prints the comparison next to its limits; int8 has none here."""
    limits = LIMITS.get(precision)
    rows = [
        ["images left out: the checkpoint is unstable", parity.left_out, parity.images],
        ["compared detections without a counterpart", parity.unmatched, 0],
        ["largest difference of a score", parity.score_difference, limits and limits.score],
        ["smallest IoU", parity.iou, limits and limits.iou],
    ]
    if limits is None:
        rows = [[name, value, "-"] for name, value, _ in rows]
    headers = [title, f"{precision}, {parity.detections} detections", "limit"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".6g"))


def compare_ap(
    cfg: DictConfig, test: DictConfig, detector: Detector, exported: ExportedDetector
) -> float:
    """Prints the COCO AP of checkpoint and file; returns how much the file loses."""
    loader = instantiate(test)
    evaluators = build_evaluators(cfg.dataloader, None)
    found = [inference_on_dataset(model, loader, evaluators) for model in (detector, exported)]
    if "bbox" not in found[0]:
        raise ConfigError(
            "--evaluate compares COCO's AP, which dataloader.evaluator does not measure.\n"
            "Fix: add CocoEvaluator to it, or leave out --evaluate"
        )
    results = [tasks["bbox"] for tasks in found]
    metrics = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    rows = [
        [name, *(f"{result[metric]:.2f}" for metric in metrics)]
        for name, result in zip(("checkpoint", "exported"), results, strict=True)
    ]
    print(
        tabulate(rows, [dataset_names(cfg, "test")[0], *metrics], "github", disable_numparse=True)
    )
    return results[0]["AP"] - results[1]["AP"]


def refuse_differences(parity: Parity, precision: str) -> None:
    """Ends the command if the file is not the checkpoint, or nothing shows that it is."""
    limits = LIMITS.get(precision)
    if limits is None or parity.holds(limits):
        return
    fix = "" if precision == "fp32" else ".\nFix: export with --precision fp32"
    if parity.within(limits):  # but on too few images
        raise ConfigError(
            f"the checkpoint itself is unstable on {parity.left_out} of "
            f"{parity.left_out + parity.images} images: noise of {NOISE:g} grey levels changes its "
            f"detections beyond the limits of {precision}. The file was deleted"
            + (fix or ".\nFix: train the checkpoint longer")
        )
    raise ConfigError(
        f"the file differs from the checkpoint beyond the limits of {precision} (table above); "
        f"it was deleted{fix}"
    )


def export(arguments: argparse.Namespace) -> None:
    """Writes to a temporary folder, compares, and moves what holds to its place."""
    check(arguments)
    if arguments.run:
        cfg, weights = find_run(arguments.run, arguments.opts)
    else:
        cfg, weights = load_config(arguments.config_file, arguments.opts), arguments.weights
    detector, spec = load_detector(cfg, weights, "cpu")
    if not isinstance(detector, Detector):
        raise ConfigError(
            f"the config's model is {type(detector).__module__}.{type(detector).__name__}, which "
            "torch.export cannot convert.\nFix: use this project's config of the same detector; "
            "detrex's weights fit it"
        )
    with_data = has_data(cfg, arguments)
    height, width = choose_size(cfg, spec, arguments, with_data)
    test = fitted(cfg.dataloader.test, height, width)
    if with_data:
        images = dataset_images(test.dataset, test.mapper, IMAGES)
        source = dataset_names(cfg, "test")[0]
        if len(images) < IMAGES:
            logger.warning(
                "%s has only %d images to compare the file on; %d or more show more",
                source,
                len(images),
                IMAGES,
            )
    else:
        images, source = noise_images(IMAGES, height, width), "random noise"
    info = GraphInfo(
        height=height,
        width=width,
        max_batch=None if arguments.dynamic_batch else 1,
        raw=arguments.raw,
        max_detections=detector.select_box_nums_for_evaluation,
        precision=arguments.precision,
        compared_on="nothing",
    )
    calibration = []
    if arguments.precision == "int8":
        train = dataset_images(cfg.dataloader.train.dataset, test.mapper, CALIBRATION_IMAGES)
        calibration = [pad([image["image"]], height, width) for image in train]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.output.parent, prefix=".export-") as folder:
        draft = Path(folder) / f"draft{arguments.output.suffix}"
        start = time.perf_counter()
        model = convert(detector, info, draft.suffix, calibration)
        save(model, metadata(spec, info), draft)
        print(f"exported in {time.perf_counter() - start:.0f} s; comparing on images of {source}")
        exported = ExportedDetector(open_model(draft))
        parity = measure(detector, exported, images, LIMITS.get(arguments.precision))
        info = dataclasses.replace(info, compared_on=describe(parity, source))
        show_parity(parity, arguments.precision, info.compared_on)
        refuse_differences(parity, arguments.precision)
        if arguments.evaluate or arguments.precision == "int8":
            loss = compare_ap(cfg, test, detector, exported)
            # NaN, where nothing was measured, is no small loss
            is_small = loss <= LARGEST_LOSS
            if arguments.precision == "int8" and not is_small and not arguments.force:
                raise ConfigError(
                    f"int8 loses {loss:.1f} AP, expected at most {LARGEST_LOSS:g}; the file was "
                    "deleted.\n"
                    "Fix: keep it with --force, or export with --precision fp32"
                )
        path = draft.with_stem(arguments.output.stem)
        save(model, metadata(spec, info), path)
        for written in (path, path.with_suffix(".bin")):
            if written.exists():
                os.replace(written, arguments.output.parent / written.name)
                print(f"wrote {arguments.output.parent / written.name}")


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = tool_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", metavar="DIR", help="folder of a training run")
    source.add_argument("--config-file", metavar="FILE", help="with --weights")
    parser.add_argument("--weights", metavar="FILE")
    parser.add_argument("--format", choices=list(SUFFIXES), required=True)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--height", type=positive_int, help="of the images; default: the data's")
    parser.add_argument("--width", type=positive_int)
    parser.add_argument("--dynamic-batch", action="store_true", help="default: one image at a time")
    parser.add_argument("--precision", choices=["fp32", "fp16", "int8"], default="fp32")
    parser.add_argument("--raw", action="store_true", help="outputs pred_logits and pred_boxes")
    parser.add_argument("--evaluate", action="store_true", help="COCO AP of file and checkpoint")
    parser.add_argument(
        "--allow-random", action="store_true", help="without data, compare on random noise"
    )
    parser.add_argument("--force", action="store_true", help="keep int8 files that lose AP")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="key=value", help="overrides")
    arguments = parser.parse_args(argv)
    logging.getLogger("projects.clockdistill").setLevel(logging.WARNING)
    with one_line_errors(arguments.debug):
        export(arguments)


if __name__ == "__main__":
    main()
