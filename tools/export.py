"""Write a detector as ONNX, OpenVINO or torch's exported program, and prove that it is the same.

    python tools/export.py --run output/dino_r18_kitti --format onnx --output student.onnx
    python tools/export.py --config-file C --weights W --format openvino --output student.xml

Of a distillation config the student is exported. The file is run on validation images and compared
with the checkpoint; a file that differs is deleted. docs/deploy.md describes inputs, outputs and
limits. Any key of the config can be overridden at the end of the line.
"""

import argparse
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
from projects.clockdistill.deployment.export import PACKAGES, SUFFIXES, write_model
from projects.clockdistill.deployment.imports import import_extra
from projects.clockdistill.deployment.loading import find_run, load_detector
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.deployment.parity import LIMITS, Parity, measure
from projects.clockdistill.deployment.runtimes import (
    ExportedDetector,
    GraphInfo,
    open_model,
    pad,
)
from projects.clockdistill.deployment.samples import (
    common_size,
    dataset_images,
    fitted,
    noise_images,
)
from projects.clockdistill.engine.arguments import (
    one_line_errors,
    positive_int,
    tool_parser,
)
from projects.clockdistill.engine.checks import dataset_names
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.data_check import check_data
from projects.clockdistill.modeling.detectors.base import Detector

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
    if arguments.height is not None:
        return arguments.height, arguments.width
    if not with_data:
        raise ConfigError(
            "the size of the images is unknown without data. Fix: add --height and --width"
        )
    height, width = common_size(cfg.dataloader.test.dataset, spec)
    print(f"size: {height} x {width}, which holds every image of the validation set, resized")
    return height, width


def show_parity(parity: Parity, precision: str, title: str) -> None:
    """Prints the comparison next to its limits; int8 has none here."""
    limits = LIMITS.get(precision)
    rows = [
        ["compared detections without a counterpart", parity.unmatched, 0 if limits else "-"],
        ["largest difference of a score", parity.score_difference, limits.score if limits else "-"],
        ["smallest IoU", parity.iou, limits.iou if limits else "-"],
    ]
    headers = [title, f"{precision}, {parity.detections} detections", "limit"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".6g"))


def compare_ap(
    cfg: DictConfig, test: DictConfig, detector: Detector, exported: ExportedDetector
) -> float:
    """Prints the COCO AP of checkpoint and file; returns how much the file loses."""
    loader = instantiate(test)
    evaluator = instantiate({**cfg.dataloader.evaluator, "output_dir": None})
    results = [
        inference_on_dataset(model, loader, evaluator)["bbox"] for model in (detector, exported)
    ]
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
    """Ends the command if the file is not the checkpoint."""
    if precision in LIMITS and not parity.holds(LIMITS[precision]):
        raise ConfigError(
            f"the file differs from the checkpoint beyond the limits of {precision} (table above); "
            "it was deleted"
            + (".\nFix: export with --precision fp32" if precision != "fp32" else "")
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
            f"the config's model is a {type(detector).__name__}; only this project's detectors can "
            "be exported"
        )
    with_data = has_data(cfg, arguments)
    height, width = choose_size(cfg, spec, arguments, with_data)
    test = fitted(cfg.dataloader.test, height, width)
    if with_data:
        images = dataset_images(test.dataset, test.mapper, IMAGES)
        compared_on = f"{len(images)} images of {dataset_names(cfg, 'test')[0]}"
    else:
        images = noise_images(IMAGES, height, width)
        compared_on = f"{len(images)} images of random noise"
    info = GraphInfo(
        height=height,
        width=width,
        max_batch=None if arguments.dynamic_batch else 1,
        raw=arguments.raw,
        max_detections=detector.select_box_nums_for_evaluation,
        precision=arguments.precision,
        compared_on=compared_on,
    )
    calibration = []
    if arguments.precision == "int8":
        train = dataset_images(cfg.dataloader.train.dataset, test.mapper, CALIBRATION_IMAGES)
        calibration = [pad([image["image"]], height, width) for image in train]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.output.parent, prefix=".export-") as folder:
        path = Path(folder) / arguments.output.name
        start = time.perf_counter()
        write_model(detector, spec, info, path, calibration)
        print(f"exported in {time.perf_counter() - start:.0f} s; comparing on {compared_on}")
        exported = ExportedDetector(open_model(path))
        parity = measure(detector, exported, images)
        show_parity(parity, arguments.precision, compared_on)
        refuse_differences(parity, arguments.precision)
        if arguments.evaluate or arguments.precision == "int8":
            loss = compare_ap(cfg, test, detector, exported)
            if arguments.precision == "int8" and loss > LARGEST_LOSS and not arguments.force:
                raise ConfigError(
                    f"int8 loses {loss:.1f} AP, more than {LARGEST_LOSS:g}; the file was deleted.\n"
                    "Fix: keep it with --force, or export with --precision fp32"
                )
        for written in sorted(Path(folder).iterdir()):
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
