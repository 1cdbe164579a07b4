"""Tests the figures of a report."""

from pathlib import Path

from omegaconf import OmegaConf

from projects.clockdistill.report.curves import loss_figures
from projects.clockdistill.report.run import Run


def test_a_loss_has_one_colour_in_all_figures() -> None:
    names = ("loss_giou", "loss_bbox", "loss_class")
    names += tuple(name.replace("loss_", "loss_distill_") for name in (*names, "loss_memory"))
    lines = [{"iteration": step, **dict.fromkeys(names, 1.0)} for step in (1, 2)]
    figures = loss_figures(Run(Path("run"), OmegaConf.create(), lines, {}))
    colors = {drawn.title: {label: color for label, color, _ in drawn.legend} for drawn in figures}
    detection, distillation = colors["Detection losses"], colors["Distillation losses"]
    assert detection.keys() == {"class", "box (L1)", "box (GIoU)"}
    assert distillation == detection | {"memory": 3}
