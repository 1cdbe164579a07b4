"""The tables of a report, as plain values for the templates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from projects.clockdistill.evaluation.diagnosis import THRESHOLDS, Diagnosis
from projects.clockdistill.report.curves import finite
from projects.clockdistill.report.run import Run

OVERALL = {"AP": "AP", "AP50": "AP50", "AP75": "AP75"}
SIZES = {"APs": "small", "APm": "medium", "APl": "large"}
# kind of error -> what it is; the thresholds are those of TIDE
ERRORS = {
    "localisation": "the right class, but the box overlaps the object by an IoU of 0.1 to 0.5 only",
    "class": "the box is right (IoU 0.5 or more), the class is not",
    "class and localisation": "a wrong class, and a box with an IoU of 0.1 to 0.5",
    "duplicate": "a right detection of an object that has a better one already",
    "background": "no object is there: the IoU with any is below 0.1",
    "missed": "an object that no detection explains, not even one with another error",
}
_MATRIX_CLASSES = 12  # more do not fit a page; then the most confused pairs are listed
_PAIRS = 15


def metric_rows(runs: Mapping[str, Run], metrics: Mapping[str, str]) -> list[tuple[str, list]]:
    """Returns a row of figures, one for each run, of every metric."""
    return [
        (words, [finite(run.metrics.get(metric)) for run in runs.values()])
        for metric, words in metrics.items()
    ]


def class_rows(diagnosis: Diagnosis, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns AP, AP50, number of objects, best threshold and F1 of every class."""
    rows = []
    for label, name in enumerate(names):
        curve = diagnosis.f1[label]
        best = curve.best if curve else None
        has_objects = diagnosis.objects[label] > 0
        rows.append(
            {
                "name": name,
                "AP": finite(diagnosis.metrics.get(f"AP-{name}")),
                "AP50": 100 * float(diagnosis.precision[label].mean()) if has_objects else None,
                "objects": diagnosis.objects[label],
                "threshold": None if best is None else float(THRESHOLDS[best]),
                "F1": None if best is None else float(curve.f1[best]),
                "precision": None if best is None else float(curve.precision[best]),
                "recall": None if best is None else float(curve.recall[best]),
            }
        )
    return rows


def confusion(diagnosis: Diagnosis, names: Sequence[str]) -> dict[str, Any]:
    """Returns the confusion matrix with shares of the rows, or its largest entries."""
    matrix = diagnosis.confusion
    if len(names) <= _MATRIX_CLASSES:
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        shares[-1] = 0  # false alarms of one class are no share of anything
        heads = [*names, "no match"]
        cells = [
            list(zip(counts, of_row, strict=True))
            for counts, of_row in zip(matrix.tolist(), shares.tolist(), strict=True)
        ]
        cells[-1][-1] = (None, 0)
        return {"columns": [*names, "missed"], "rows": list(zip(heads, cells, strict=True))}
    pairs = [
        (int(matrix[row, column]), names[row], names[column], diagnosis.objects[row])
        for row, column in np.argwhere(matrix[:-1, :-1])
        if row != column
    ]
    return {"pairs": sorted(pairs, key=lambda pair: -pair[0])[:_PAIRS]}


def error_rows(diagnoses: Mapping[str, Diagnosis]) -> list[tuple[str, str, list]]:
    """Returns kind, description, and each diagnosis's cost in AP50 and number of errors."""
    return [
        (
            kind,
            words,
            [(one.errors[kind].ap50_gain, one.errors[kind].count) for one in diagnoses.values()],
        )
        for kind, words in ERRORS.items()
    ]


def class_differences(runs: Mapping[str, Run]) -> list[tuple[str, list, list]]:
    """Returns AP of every class in each run, and the differences to the first run."""
    names = dict.fromkeys(
        name for run in runs.values() for name in run.metrics if name.startswith("AP-")
    )
    rows = []
    for name in names:
        values = [finite(run.metrics.get(name)) for run in runs.values()]
        first = values[0]
        others = [None if first is None or value is None else value - first for value in values]
        rows.append((name.removeprefix("AP-"), values, others))
    return rows


def other_tasks(run: Run) -> dict[str, list[tuple[str, float | None]]]:
    """Returns the figures of evaluators other than COCO's and KITTI's."""
    return {
        task: [(name, finite(value)) for name, value in figures.items()]
        for task, figures in run.results.items()
        if task not in ("bbox", "kitti") and isinstance(figures, dict)
    }


def kitti_table(run: Run) -> dict[str, Any] | None:
    """Returns KITTI's AP by class, difficulty and number of recall points; None without it."""
    rows: dict[str, dict[str, float | None]] = {}
    for name, value in (run.results.get("kitti") or {}).items():
        points, *of_class, difficulty = name.split("-")  # "AP40-Car-moderate" or "AP40-moderate"
        row = rows.setdefault("-".join(of_class) or "mean", {})
        row[f"{points} {difficulty}"] = finite(value)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells = [(name, [row.get(column) for column in columns]) for name, row in rows.items()]
    return {"columns": columns, "rows": cells} if rows else None
