"""Distils a small detector and shows what it gains, without a network or a GPU.

Draws synthkitti and takes the shipped teacher, which has seen the labels of all 1,600 training
frames (or trains it). Two students have labels of 200 frames only: one trains without the teacher,
one with it, for about the same time and from the same initial weights. Evaluates all three, and
writes a table, a grid of pictures and loss curves to the output folder. The distilled student is
exported to ONNX, compared with its checkpoint, and run on validation frames. Each run's folder has
its report.html.

    python tools/demo.py [--teacher shipped|train] [--output output/demo]
"""

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # before detectron2: silences a warning of its import

# isort: split
from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate

import projects.clockdistill.data  # noqa: F401  (registers synthkitti)
from projects.clockdistill.configs.models.parts import MINI_TEACHER_CHECKPOINT
from projects.clockdistill.deployment.export import PACKAGES
from projects.clockdistill.deployment.imports import import_extra
from projects.clockdistill.engine.arguments import (
    one_line_errors,
    positive_int,
    tool_parser,
)
from projects.clockdistill.engine.config_file import ROOT
from projects.clockdistill.engine.jobs import TOOLS, Run, exit_on_signals, run_together
from projects.clockdistill.errors import UserError
from projects.clockdistill.report.after_run import try_write_report
from projects.clockdistill.report.run import DETECTIONS, REPORT
from projects.clockdistill.visualization.curves import save_curves
from projects.clockdistill.visualization.detection_grid import DrawnBox, save_detection_grid

SHIPPED_TEACHER = ROOT / MINI_TEACHER_CHECKPOINT
TEACHER_CONFIG = "mini/teachers/dino_r50_synthkitti.py"
DISTILLED_STEPS = 2_400
MORE_STEPS = 1.5  # undistilled, in about the same time
EVALUATIONS = 3  # of each student
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
PICTURED_FRAMES = 6
SHOWN_SCORE = 0.3  # the grid shows detections from this confidence on


def run_all(runs: list[Run]) -> None:
    """Carries out all runs at once. One that fails ends the demo."""

    def check(run: Run, code: int) -> None:
        if code:
            raise UserError(f"{run.title} failed; the end of {run.console}:\n{run.last_lines()}")

    run_together(runs, check)


def detections(run: Run) -> dict[int, list[dict]]:
    """Returns a run's detections in COCO's result format, by image id."""
    by_image: dict[int, list[dict]] = {}
    for detection in json.loads((run.folder / DETECTIONS).read_text()):
        by_image.setdefault(detection["image_id"], []).append(detection)
    return by_image


def write_table(path: Path, runs: list[Run]) -> str:
    """Writes the COCO metrics of all runs as a Markdown table, and returns it."""
    rows = [[run.title, *(f"{run.metrics()[metric]:.1f}" for metric in METRICS)] for run in runs]
    table = tabulate(rows, headers=["synthkitti_val", *METRICS], tablefmt="github")
    path.write_text(table + "\n")
    return table


def pictured_frames() -> list[dict]:
    """Returns validation frames with many objects."""
    frames = sorted(
        DatasetCatalog.get("synthkitti_val"),
        key=lambda frame: (-len(frame["annotations"]), frame["image_id"]),
    )
    return frames[:: max(1, len(frames) // (2 * PICTURED_FRAMES))][:PICTURED_FRAMES]


def write_pictures(path: Path, runs: list[Run]) -> None:
    """Draws ground truth and all detections on the pictured frames."""
    frames = pictured_frames()
    truth = [
        [
            DrawnBox(tuple(annotation["bbox"]), annotation["category_id"])
            for annotation in frame["annotations"]
            if not annotation.get("iscrowd", 0)
        ]
        for frame in frames
    ]
    columns = {"ground truth": truth}
    for run in runs:
        found = detections(run)
        columns[run.title] = [_drawn(found.get(frame["image_id"], [])) for frame in frames]
    save_detection_grid(
        path,
        [Path(frame["file_name"]) for frame in frames],
        columns,
        MetadataCatalog.get("synthkitti_val").thing_classes,
    )


def deploy(run: Run, exported: Path, predictions: Path) -> None:
    """Exports a run's student to ONNX and predicts with the file; a failure ends the demo."""
    frames = [frame["file_name"] for frame in pictured_frames()]
    shown = ("--threshold", SHOWN_SCORE)
    commands = (
        ("export", "--run", run.folder, "--format", "onnx", "--output", exported),
        ("predict", "--model", exported, *frames, "--output", predictions, *shown),
    )
    for tool, *arguments in commands:
        command = [sys.executable, str(TOOLS / f"{tool}.py"), *map(str, arguments)]
        if subprocess.run(command).returncode:
            raise UserError(f"{tool}.py failed, as printed above")


def _drawn(detections: list[dict]) -> list[DrawnBox]:
    """Turns COCO results (xywh, category ids are class indices) into boxes to draw."""
    boxes = []
    for detection in detections:
        if detection["score"] >= SHOWN_SCORE:
            left, top, width, height = detection["bbox"]
            corners = (left, top, left + width, top + height)
            boxes.append(DrawnBox(corners, detection["category_id"], detection["score"]))
    return boxes


def schedule(steps: int) -> tuple[str, ...]:
    """Returns the overrides of a student: labels of 200 frames, steps, evaluations."""
    return (
        "dataloader.train.dataset.names=synthkitti_few_train",
        f"train.max_iter={steps}",
        f"train.eval_period={math.ceil(steps / EVALUATIONS)}",
    )


def demonstrate(arguments: argparse.Namespace) -> None:
    """Trains, evaluates, compares, exports and predicts."""
    for name in PACKAGES["onnx"]:  # needed at the end; said before ten minutes of training
        import_extra(name)
    start = time.perf_counter()
    output: Path = arguments.output
    on_cpu = ("train.device=cpu",)

    print("drawing synthkitti (once)", flush=True)
    DatasetCatalog.get("synthkitti_val")
    folder = output / "teacher"
    if arguments.teacher == "train":
        print("training the teacher", flush=True)
        weights = folder / "model_final.pth"
        shorter = () if arguments.steps is None else (f"train.max_iter={arguments.steps}",)
        teacher = Run("teacher", TEACHER_CONFIG, folder, (*on_cpu, *shorter))
    else:
        print("evaluating the shipped teacher", flush=True)
        weights = SHIPPED_TEACHER
        overrides = (*on_cpu, f"train.init_checkpoint={weights}")
        teacher = Run("teacher", TEACHER_CONFIG, folder, overrides, ("--eval-only",))
    run_all([teacher])

    print("training the student on 200 labelled frames, undistilled and distilled", flush=True)
    steps = arguments.steps or DISTILLED_STEPS
    undistilled = Run(
        "undistilled",
        "mini/baselines/dino_r18_synthkitti.py",
        output / "undistilled",
        (*on_cpu, *schedule(round(MORE_STEPS * steps))),
    )
    distilled = Run(
        "distilled",
        "mini/dino_r18_synthkitti.py",
        output / "distilled",
        (f"model.teacher_checkpoint={weights}", *on_cpu, *schedule(steps)),
    )
    run_all([undistilled, distilled])
    try_write_report(distilled.folder)  # its own came too early if the other run ended last

    runs = [teacher, undistilled, distilled]
    table = write_table(output / "table.md", runs)
    write_pictures(output / "detections.png", runs)
    save_curves(
        output / "curves.png",
        {run.title: run.logged() for run in (undistilled, distilled)},
        {
            "loss_class": "Detection loss: class",
            "loss_giou": "Detection loss: GIoU",
            "bbox/AP": "AP (synthkitti_val)",
        },
    )
    exported, predictions = output / "student.onnx", output / "predictions"
    print(f"\n{table}\n\nexporting the distilled student", flush=True)
    deploy(distilled, exported, predictions)
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{minutes:.1f} minutes; the pictures and all runs:")
    names = ("table.md", "detections.png", "curves.png", exported.name, predictions.name)
    for path in (*(output / name for name in names), distilled.folder / REPORT):
        print(f"  {path}")


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument("--teacher", choices=["shipped", "train"], default="shipped")
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    parser.add_argument("--steps", type=positive_int, help="distilled; default: 2400")
    arguments = parser.parse_args(argv)
    exit_on_signals()
    with one_line_errors(arguments.debug):
        demonstrate(arguments)


if __name__ == "__main__":
    main()
