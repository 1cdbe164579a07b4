"""What a run cost: sizes, times and memory."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf

from projects.clockdistill.deployment.loading import run_weights
from projects.clockdistill.report.run import Run

# lines of log.txt that detectron2 writes
_PER_BATCH = re.compile(r"Total inference pure compute time:.*\(([\d.]+) s / iter per device")
_MEMORY = re.compile(r"max_mem: (\d+)M")  # MiB


def count_parameters(run: Run, part: str = "") -> int | None:
    """Returns the number of parameters of a run's detector; None if it cannot be built here.

    Args:
        run: of a plain detector, or of a distillation.
        part: "student" or "teacher" of a distillation.
    """
    node = OmegaConf.select(run.cfg, f"model.{part}" if part else "model")
    try:
        with torch.device("meta"):  # no memory, no random numbers
            detector = instantiate(node)
    except Exception:  # a package that is not there, or code that computes with its weights
        return None
    return sum(parameter.numel() for parameter in detector.parameters())


def costs(run: Run) -> list[tuple[str, str]]:
    """Returns what a run cost, as terms and figures; what is not known is left out."""
    rows = []
    weights = run_weights(run.folder)
    if weights is not None:
        rows.append((f"size of {weights.name}", f"{weights.stat().st_size / 1e6:.1f} MB"))
    training = seconds_of_training(run)
    if training:
        rows.append(("training", f"{duration(training)} for {run.steps:,} steps"))
    step, loading = seconds_per_step(run), _median(run, "data_time")
    if step:
        batch = run.select("dataloader.train.total_batch_size")
        text = f"{step:.3f} s a step"
        if batch:
            text += f", {batch / step:.1f} images a second"
        if loading is not None:
            text += f"; waiting for data {loading / step:.0%}"
        rows.append(("speed of training", text))
    log = _log(run)
    if found := _PER_BATCH.findall(log):
        seconds = float(found[-1]) / run.select("dataloader.test.batch_size", 1)
        text = f"{seconds * 1000:.1f} ms an image, without loading and scoring"
        rows.append(("speed of evaluation", text))
    if found := _MEMORY.findall(log):
        rows.append(("peak GPU memory of training", f"{max(map(int, found)) * 2**20 / 1e9:.2f} GB"))
    return rows


def seconds_of_training(run: Run) -> float:
    """Returns the seconds of all logged steps, without evaluations."""
    steps, times = run.logged("time")
    return float(np.dot(np.diff([0, *steps]), times)) if steps else 0.0


def seconds_per_step(run: Run) -> float | None:
    """Returns the median seconds of a step; None if none was logged."""
    return _median(run, "time")


def duration(seconds: float) -> str:
    """Returns a time in the largest units that it has."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _median(run: Run, metric: str) -> float | None:
    _, values = run.logged(metric)
    return float(np.median(values)) if values else None


def _log(run: Run) -> str:
    file: Path = run.folder / "log.txt"
    return file.read_text(errors="replace") if file.is_file() else ""


def as_row(run: Run) -> dict[str, Any]:
    """Returns the figures that a comparison shows of a run."""
    step = seconds_per_step(run)
    training = seconds_of_training(run)
    parameters = count_parameters(run, "student" if run.is_distillation else "")
    return {
        "parameters": f"{parameters / 1e6:.2f} M" if parameters else None,
        "steps": f"{run.steps:,}" if run.steps else None,
        "s/step": f"{step:.3f}" if step else None,
        "training": duration(training) if training else None,
    }
