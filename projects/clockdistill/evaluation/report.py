"""Tables and files of results."""

import json
import math
from pathlib import Path

from tabulate import tabulate

_COLUMNS_OF_CLASSES = 4


def format_table(metrics: dict[str, float], task: str = "bbox") -> str:
    """Returns Markdown tables of an evaluator's figures.

    Args:
        metrics: percent by name, as the evaluator returns them; NaN where there is no object.
        task: "kitti" gives one table of classes and difficulties; any other task gives one of all
            figures that are of no class, such as COCO's six, and one of AP per class.
    """
    return _kitti_table(metrics) if task == "kitti" else _coco_tables(metrics)


def _kitti_table(metrics: dict[str, float]) -> str:
    """Returns a table with a row per class and the mean; `KittiEvaluator` gives the names."""
    rows: dict[str, dict[str, str]] = {}
    for name, value in metrics.items():
        points, *of_class, difficulty = name.split("-")
        rows.setdefault("-".join(of_class), {})[f"{points} {difficulty}"] = _show(value)
    mean = rows.pop("")
    cells = [[name, *row.values()] for name, row in [*rows.items(), ("mean", mean)]]
    return _markdown(cells, ["class", *mean])


def _coco_tables(metrics: dict[str, float]) -> str:
    overall = {name: value for name, value in metrics.items() if not name.startswith("AP-")}
    classes = [
        (name.removeprefix("AP-"), _show(value))
        for name, value in metrics.items()
        if name.startswith("AP-")
    ]
    tables = [_markdown([[_show(value) for value in overall.values()]], list(overall))]
    if classes:
        width = min(_COLUMNS_OF_CLASSES, len(classes))
        rows = [
            [cell for pair in classes[start : start + width] for cell in pair]
            for start in range(0, len(classes), width)
        ]
        tables.append(_markdown(rows, ["class", "AP"] * width))
    return "\n\n".join(tables)


def write_results(results: dict[str, dict[str, float]], output_dir: str | Path) -> None:
    """Writes results.json (null where there is no figure) and results.md.

    Args:
        results: {task: {metric: percent}}.
        output_dir: folder; it is created if necessary.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    plain = {
        task: {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        for task, metrics in results.items()
    }
    (folder / "results.json").write_text(json.dumps(plain, indent=2) + "\n")
    tables = [f"## {task}\n\n{format_table(metrics, task)}" for task, metrics in results.items()]
    (folder / "results.md").write_text("\n\n".join(tables) + "\n")


def _show(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"


def _markdown(rows: list[list[str]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
