"""Tables and files of COCO results."""

import json
import math
from pathlib import Path

from tabulate import tabulate

_COLUMNS_OF_CLASSES = 4


def format_table(metrics: dict[str, float]) -> str:
    """Returns two Markdown tables: the six COCO figures, and AP per class.

    Args:
        metrics: percent by name, as the evaluator returns them; NaN where there is no object.
    """
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
    tables = [f"## {task}\n\n{format_table(metrics)}" for task, metrics in results.items()]
    (folder / "results.md").write_text("\n\n".join(tables) + "\n")


def _show(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"


def _markdown(rows: list[list[str]], headers: list[str]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
