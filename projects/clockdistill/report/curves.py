"""The figures of a run: losses and AP over steps, precision, recall and F1."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from projects.clockdistill.evaluation.diagnosis import RECALLS, THRESHOLDS, Diagnosis
from projects.clockdistill.report.figures import Drawn, Series, draw, smooth
from projects.clockdistill.report.run import Run

DISTILLATION = "loss_distill_"
_SHOWN_CLASSES = 7  # of more, a figure shows the highest and the lowest
_DETECTION = {"loss_class": "class", "loss_bbox": "box (L1)", "loss_giou": "box (GIoU)"}


def loss_figures(run: Run) -> list[Drawn]:
    """Draws the losses of a run over its steps, weighted as they are added up."""
    names = {name for line in run.lines for name in line if name.startswith("loss_")}
    # as the detection losses, so that the same loss has the same colour in both figures
    order = [name.replace("loss_", DISTILLATION) for name in _DETECTION]
    distilled = [name for name in order if name in names]
    distilled += sorted({n for n in names if n.startswith(DISTILLATION)} - set(order))
    detection = sorted(names - set(distilled))
    if not names:
        return []
    sums = [("detection losses", detection), ("distillation losses", distilled)]
    lines = [line for label, parts in sums if parts for line in _sum(run, label, parts)]
    figures = [_losses("Sum of the losses", lines, _explained(lines))]
    own = [(name, _DETECTION[name]) for name in _DETECTION if name in names]
    if own:
        last = ""
        if len(detection) > len(own):
            last = (
                "Of the last decoder layer. The sum also counts other layers and denoising queries."
            )
        figures.append(_losses("Detection losses", _each(run, own), last))
    if distilled:
        labels = [(name, _distillation(name)) for name in distilled]
        figures.append(_losses("Distillation losses", _each(run, labels)))
    return figures


def _distillation(name: str) -> str:
    what = name.removeprefix(DISTILLATION)
    return _DETECTION.get(f"loss_{what}", what.replace("_", " "))


def total_loss_figure(runs: Mapping[str, Run]) -> list[Drawn]:
    """Draws the sum of the detection losses of several runs, which all of them have."""
    lines = []
    for color, (label, run) in enumerate(runs.items()):
        names = {name for line in run.lines for name in line if name.startswith("loss_")}
        parts = sorted(name for name in names if not name.startswith(DISTILLATION))
        if parts:
            lines += _sum(run, label, parts, color)
    note = f"Without distillation losses. {_explained(lines)}"
    return [_losses("Sum of the detection losses", lines, note)] if lines else []


def _explained(lines: Sequence[Series]) -> str:
    is_smoothed = any(line.faint for line in lines)
    return "Pale: as logged. Strong: moving average." if is_smoothed else ""


def _sum(run: Run, label: str, names: Sequence[str], color: int | None = None) -> list[Series]:
    by_step: dict[int, float] = defaultdict(float)
    for name in names:
        for step, value in zip(*run.logged(name), strict=True):
            by_step[step] += value
    color = (1 if DISTILLATION in names[0] else 0) if color is None else color
    return smooth(label, list(by_step), list(by_step.values()), color)


def _each(run: Run, names: Sequence[tuple[str, str]]) -> list[Series]:
    return [
        line
        for color, (name, label) in enumerate(names)
        for line in smooth(label, *run.logged(name), color)
    ]


def _losses(title: str, lines: Sequence[Series], note: str = "") -> Drawn:
    is_positive = all(value > 0 for line in lines for value in line.y)
    return draw(title, lines, x_label="step", y_label="loss", log=is_positive, note=note)


def ap_figure(runs: Mapping[str, Run], metric: str = "AP") -> list[Drawn]:
    """Draws AP over the steps; a run that only evaluated is a horizontal line."""
    lines, ends = [], [run.steps for run in runs.values()]
    for color, (label, run) in enumerate(runs.items()):
        steps, values = run.logged(f"bbox/{metric}")
        if steps:
            lines.append(Series(label, steps, values, color, dots=True))
        elif run.metrics.get(metric) is not None and max(ends):
            lines.append(Series(label, [0, max(ends)], [run.metrics[metric]] * 2, color))
    if not any(line.dots for line in lines):
        return []
    return [draw(f"{metric} over steps", lines, x_label="step", y_label=f"{metric} (percent)")]


def threshold_figures(diagnosis: Diagnosis, names: Sequence[str]) -> list[Drawn]:
    """Draws precision over recall, and F1 over the threshold with the best one marked."""
    labels = [label for label, number in enumerate(diagnosis.objects) if number]
    if not labels:
        return []
    note = ""
    if len(labels) > _SHOWN_CLASSES:
        # by the area below the curve, AP50
        ranked = sorted(labels, key=lambda label: -np.nanmean(diagnosis.precision[label]))
        labels = [*ranked[:3], *ranked[-3:]]
        note = f"The three best and the three worst of {len(ranked)} classes, by AP50."
    precision = diagnosis.precision
    lines = [
        Series(names[label], RECALLS, precision[label], color + 1, width=1.1)
        for color, label in enumerate(labels)
    ]
    mean = np.nanmean(precision[[bool(number) for number in diagnosis.objects]], axis=0)
    lines.append(Series("mean of all classes", RECALLS, mean, 0, width=2.4))
    curves = [
        Series(names[label], THRESHOLDS, diagnosis.f1[label].f1, color + 1, width=1.1)
        for color, label in enumerate(labels)
    ]
    overall = diagnosis.overall
    curves.append(Series("all objects", THRESHOLDS, overall.f1, 0, width=2.4, mark=overall.best))
    best = ""
    if overall.best is not None:
        best = (
            f"Best threshold {THRESHOLDS[overall.best]:.2f}: F1 {overall.f1[overall.best]:.3f}, "
            f"precision {overall.precision[overall.best]:.3f}, "
            f"recall {overall.recall[overall.best]:.3f}. "
        )
    unit = (-0.02, 1.02)
    return [
        draw(
            "Precision over recall",
            lines,
            x_label="recall",
            y_label="precision",
            y_range=unit,
            note=note,
        ),
        draw(
            "F1 over the threshold",
            curves,
            x_label="confidence threshold",
            y_label="F1",
            y_range=unit,
            note=best + note,
        ),
    ]


def finite(value: float | None) -> float | None:
    """Returns a figure; None where there is none."""
    return value if value is not None and math.isfinite(value) else None
