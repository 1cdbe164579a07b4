"""The whole story in one command, without a network or a GPU.

Draws synthkitti, takes the shipped teacher (or trains it), trains one student undistilled and one
distilled for the same number of steps from the same initial weights, evaluates all three, and
leaves a table, a picture grid and loss curves in the output folder.

    python tools/demo.py [--teacher shipped|train] [--output output/demo]
"""

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import projects.clockdistill  # before detectron2: silences a warning of its import

# isort: split
import matplotlib
from detectron2.data import DatasetCatalog, MetadataCatalog
from tabulate import tabulate

import projects.clockdistill.data  # noqa: F401  (registers synthkitti)
from projects.clockdistill.configs.models.parts import MINI_TEACHER_CHECKPOINT
from projects.clockdistill.engine.commands import CONFIGS, ROOT, tool_command
from projects.clockdistill.engine.jobs import Job, exits_on_signals, run_together
from projects.clockdistill.visualization.curves import save_curves
from projects.clockdistill.visualization.detection_grid import DrawnBox, save_detection_grid

MINI = CONFIGS / "mini"
SHIPPED_TEACHER = ROOT / MINI_TEACHER_CHECKPOINT
TEACHER_CONFIG = MINI / "teachers/dino_r50_synthkitti.py"
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
PICTURED_FRAMES = 6
SHOWN_SCORE = 0.3  # the grid shows detections from this confidence on


@dataclass(frozen=True)
class Run:
    """One call of tools/train_net.py.

    Attributes:
        title: how table and pictures call it.
        output: its output folder.
        config: its config file.
        arguments: further arguments of the call.
    """

    title: str
    output: Path
    config: Path
    arguments: tuple[str, ...] = ()

    def job(self) -> Job:
        """Itself as a program to run."""
        where = (f"train.output_dir={self.output}", "train.device=cpu")
        command = tool_command("train_net", self.config, *self.arguments, *where)
        return Job(self.title, command, self.output)

    def metrics(self) -> dict[str, float]:
        return json.loads((self.output / "results.json").read_text())["bbox"]

    def detections(self) -> dict[int, list[dict]]:
        """Its detections in COCO's result format, by image id."""
        file = self.output / "inference/coco_instances_results.json"
        by_image: dict[int, list[dict]] = {}
        for detection in json.loads(file.read_text()):
            by_image.setdefault(detection["image_id"], []).append(detection)
        return by_image


def run_all(runs: list[Run]) -> None:
    """Runs all at once, the CPU's cores shared among them; one that fails ends the demo."""

    def start_anew(job: Job) -> None:
        shutil.rmtree(job.folder, ignore_errors=True)  # metrics.json would go on where it ended

    def check(job: Job, code: int) -> None:
        if code:
            sys.exit(f"{job.title} failed; the end of {job.console}:\n{job.last_lines()}")

    run_together([run.job() for run in runs], start_anew, check)


def write_table(path: Path, runs: list[Run]) -> str:
    """The COCO figures of all runs as a Markdown table, also written to `path`."""
    rows = [[run.title, *(f"{run.metrics()[metric]:.1f}" for metric in METRICS)] for run in runs]
    table = tabulate(rows, headers=["synthkitti_val", *METRICS], tablefmt="github")
    path.write_text(table + "\n")
    return table


def write_pictures(path: Path, runs: list[Run]) -> None:
    """Ground truth and the detections of all runs for the validation frames with most objects."""
    frames = sorted(
        DatasetCatalog.get("synthkitti_val"),
        key=lambda frame: (-len(frame["annotations"]), frame["image_id"]),
    )
    frames = frames[:: max(1, len(frames) // (2 * PICTURED_FRAMES))][:PICTURED_FRAMES]
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
        detections = run.detections()
        columns[run.title] = [_drawn(detections.get(frame["image_id"], [])) for frame in frames]
    save_detection_grid(
        path,
        [Path(frame["file_name"]) for frame in frames],
        columns,
        MetadataCatalog.get("synthkitti_val").thing_classes,
        matplotlib.colormaps["tab10"],
    )


def _drawn(detections: list[dict]) -> list[DrawnBox]:
    """COCO results (xywh; their ids are class indices here) as boxes to draw."""
    boxes = []
    for detection in detections:
        if detection["score"] >= SHOWN_SCORE:
            left, top, width, height = detection["bbox"]
            corners = (left, top, left + width, top + height)
            boxes.append(DrawnBox(corners, detection["category_id"], detection["score"]))
    return boxes


def main() -> None:
    with exits_on_signals():
        demonstrate()


def demonstrate() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", choices=["shipped", "train"], default="shipped")
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    parser.add_argument("--steps", type=int, help="training steps (default: the configs')")
    arguments = parser.parse_args()
    start = time.perf_counter()
    output: Path = arguments.output
    steps = () if arguments.steps is None else (f"train.max_iter={arguments.steps}",)

    print("drawing synthkitti (once)", flush=True)
    DatasetCatalog.get("synthkitti_val")
    if arguments.teacher == "train":
        print("training the teacher", flush=True)
        teacher = Run("teacher", output / "teacher", TEACHER_CONFIG, steps)
        weights = teacher.output / "model_final.pth"
    else:
        print("evaluating the shipped teacher", flush=True)
        weights = SHIPPED_TEACHER
        evaluate = ("--eval-only", f"train.init_checkpoint={weights}")
        teacher = Run("teacher", output / "teacher", TEACHER_CONFIG, evaluate)
    run_all([teacher])

    print("training the student, undistilled and distilled", flush=True)
    undistilled = Run(
        "undistilled", output / "undistilled", MINI / "baselines/dino_r18_synthkitti.py", steps
    )
    distilled = Run(
        "distilled",
        output / "distilled",
        MINI / "dino_r18_synthkitti.py",
        (f"model.teacher_checkpoint={weights}", *steps),
    )
    run_all([undistilled, distilled])

    runs = [teacher, undistilled, distilled]
    table = write_table(output / "table.md", runs)
    write_pictures(output / "detections.png", runs)
    save_curves(
        output / "curves.png",
        {run.title: run.output / "metrics.json" for run in (undistilled, distilled)},
        ["loss_class", "loss_giou", "bbox/AP"],
        ["Detection loss: class", "Detection loss: GIoU", "AP (synthkitti_val)"],
    )
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{table}\n\n{minutes:.1f} minutes; the pictures and all runs:")
    for name in ("table.md", "detections.png", "curves.png"):
        print(f"  {output / name}")


if __name__ == "__main__":
    main()
