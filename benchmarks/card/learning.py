"""The mini experiment: a student without and with its teacher, and the accuracy of both."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image

from benchmarks.card.report import ROOT
from benchmarks.card.section import Run
from projects.clockdistill.data.kitti import datasets_root
from projects.clockdistill.data.kitti_tree import IMAGE_FOLDER, LABEL_FOLDER
from projects.clockdistill.data.synthkitti.tree import ensure_tree
from projects.clockdistill.engine import jobs

STEPS, QUICK_STEPS = 500, 2
CONFIGS = {
    "undistilled": "mini/baselines/dino_r18_synthkitti.py",
    "distilled": "mini/dino_r18_synthkitti.py",
}
# Written by: python benchmarks/gpu.py --device cpu --only learning --seconds 900 --json <this file>
CPU_RESULTS = ROOT / "benchmarks" / "results" / "gpu_learning_cpu.json"
METRICS = ("AP", "AP50")


class TrainingFailed(RuntimeError):
    """A training run ended with an error."""


def mini_experiment(run: Run) -> None:
    """Trains both students at the same time and adds the AP of each.

    A tree of synthkitti that was drawn elsewhere is used as it is; drawing one needs OpenCV.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if run.quick:
            write_noise(folder / "kitti")
            run_all(run, folder, ["distilled"], QUICK_STEPS, quick_overrides(), temporary)
            return
        ensure_tree(datasets_root() / "synthkitti")
        run_all(run, folder, list(CONFIGS), STEPS, (), str(datasets_root()))
    on_cpu = cpu_results() if run.on_cuda else {}
    for row in run.rows:
        if row["student"] in on_cpu:
            row |= {f"{name}, CPU": on_cpu[row["student"]][name] for name in METRICS}


def run_all(
    run: Run,
    folder: Path,
    students: list[str],
    steps: int,
    overrides: tuple[str, ...],
    data: str,
) -> None:
    """Trains the students at the same time and adds a row for each, if all end in time.

    Args:
        run: gives the device and the time.
        folder: for the output.
        students: of `CONFIGS`.
        steps: of the training.
        overrides: further ones of the configs.
        data: root of the datasets.

    Raises:
        TrainingFailed: with what a run printed last.
    """
    overrides = (
        f"train.device={run.device.type}",
        f"train.max_iter={steps}",
        "train.eval_period=0",
        "train.checkpointer.period=0",
        *overrides,
    )
    runs = [jobs.Run(name, CONFIGS[name], folder / name, overrides) for name in students]
    threads = torch.get_num_threads() // len(runs) or 1
    jobs.exit_on_signals()  # so that whatever ends this program ends the runs
    with mock.patch.dict(os.environ, DETECTRON2_DATASETS=data):
        processes = [one.start(threads) for one in runs]
    try:
        for one, process in zip(runs, processes, strict=True):
            if process.wait(max(0.0, run.seconds_left)):
                raise TrainingFailed(f"{one.title}: {one.last_lines()}")
    except subprocess.TimeoutExpired:
        run.notes.append(f"left out, no time: {', '.join(one.progress() for one in runs)}")
        return
    finally:
        jobs.stop(processes)
    for one in runs:
        run.add(student=one.title, steps=steps, **{name: one.metrics()[name] for name in METRICS})


def write_noise(root: Path) -> None:
    """Writes ten images of noise as a KITTI tree, each with one car."""
    rng = np.random.default_rng(0)
    for folder in (IMAGE_FOLDER, LABEL_FOLDER):
        (root / folder).mkdir(parents=True)
    for number in range(10):
        pixels = rng.integers(256, size=(96, 320, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / IMAGE_FOLDER / f"{number:06d}.png")
        label = "Car 0.00 0 0.00 50.00 30.00 120.00 80.00 1.5 1.6 4.0 0.0 1.5 10.0 0.0\n"
        (root / LABEL_FOLDER / f"{number:06d}.txt").write_text(label)


def quick_overrides() -> tuple[str, ...]:
    """Returns what lets the configs run on noise, which no teacher recognises."""
    return (
        "dataloader.train.dataset.names=kitti_train",
        "dataloader.test.dataset.names=kitti_val",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        "train.teacher_check_images=0",
    )


def cpu_results() -> dict[str, dict]:
    """Returns the rows of the same section on a CPU, by student; nothing if there are none."""
    if not CPU_RESULTS.is_file():
        return {}
    rows = json.loads(CPU_RESULTS.read_text())["sections"]["learning"]["rows"]
    return {row["student"]: row for row in rows}
