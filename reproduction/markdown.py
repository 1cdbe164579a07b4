"""A measured table as Markdown, for readers."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from reproduction.table import METRICS, Table

_WHAT_INTERVALS_ARE = """\
AP is the mean over the seeds, ± their standard deviation (n - 1). A gain is a difference of means,
with its 95% interval: a percentile bootstrap over the seeds of both sides and over the test
images, the same images for both. Of few seeds it can say little: where seeds alone differ, an
interval called 95% holds the truth in 69% of the cases with 2 seeds and in 86% with 3 (simulated;
90% and 94% where the choice of images counts as much as a seed). Welch's t interval, over the seeds
alone, is right with few seeds too, but wide. One seed has no interval. APs and gains of the paper
were measured on its data; where ours are others, only order and signs can be compared."""

_WHAT_COSTS_ARE = """\
Parameters and multiply-adds of the detector without its teacher, {height} x {width} pixels; FPS:
one image after the other{fps_on}, by tools/analyze_model.py. Training: all steps of one run,
without start-up and evaluation, mean over the seeds; runs that share a machine slow each other
down. In brackets: the paper's."""

_MINI = (
    "Small detectors on synthkitti, **drawn scenes, not KITTI**: what can be compared with the "
    "paper is order and signs."
)


def markdown(table: Table, content: dict[str, Any], picture: str) -> str:
    """The whole page.

    Args:
        table: what is reported.
        content: see `report.write_report`.
        picture: file name of the picture beside it.
    """
    rows, scale = content["rows"], content["scale"]
    remark = table.remarks.get(scale)
    parts = [
        f"# Table {table.number}, scale {scale}: {table.title}",
        table.caption,
        _MINI if scale == "mini" else "",
        _overview(table, rows),
        f"![bars]({picture})",
        _WHAT_INTERVALS_ARE,
        f"{remark[0].upper()}{remark[1:]}." if remark else "",
        _list([f"{row['row']}: {row['note']}" for row in rows if row["note"]]),
        _failures(rows),
        "## Rows that do not part",
        _undecided(content["undecided"]),
        "## All figures (the paper's in brackets)",
        _all_figures(rows),
        "## Costs",
        _costs(rows),
        _cost_note(table, rows, scale),
        "## How it was made",
        _making(content),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _overview(table: Table, rows: Sequence[dict[str, Any]]) -> str:
    headers = ["row", "seeds", "AP", "gain [95%]", "Welch's 95%"]
    names = [row["row"] for row in rows]
    rivals = [name for name in table.rivals if name in names]
    headers += [f"over {name} [95%]" for name in rivals]
    headers += ["paper: AP", "paper: gain"]
    cells = []
    for row in rows:
        line = [row["row"], _seeds(row), _level(row)]
        line += [_gain(row, "gain"), _pair(row.get("gain_welch95"))]
        line += [_gain(row, f"gain_over_{name}") for name in rivals]
        line += [_number(row["paper_ap"]), _number(row["paper_gain"], "+.1f")]
        cells.append(line)
    return _table(cells, headers)


def _seeds(row: dict[str, Any]) -> str:
    return " ".join(map(str, row["seeds"])) or "-"


def _level(row: dict[str, Any]) -> str:
    """The mean; and where seeds are missing, that they are."""
    parts = []
    if row["ap_mean"] is not None:
        spread = "" if row["ap_std"] is None else f" ± {row['ap_std']:.1f}"
        parts.append(f"{row['ap_mean']:.1f}{spread}")
    for name, seeds in (("FAILED", row["failed"]), ("not run", row["not_run"])):
        if seeds:
            which = " ".join(str(one["seed"]) for one in seeds)
            parts.append(f"{name} (seed {which})" if parts else name)
    return ", ".join(parts)


def _gain(row: dict[str, Any], key: str) -> str:
    if row.get(key) is None:
        return "-"
    return f"{row[key]:+.1f} {_pair(row[f'{key}_ci95'])}".removesuffix(" -")


def _pair(ends: Sequence[float] | None) -> str:
    return f"[{ends[0]:+.1f}, {ends[1]:+.1f}]" if ends else "-"


def _number(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else format(value, form)


def _with_paper(value: float | None, paper: float | None, form: str = ".1f", unit: str = "") -> str:
    """Our figure, and the paper's in brackets where it gives one."""
    ours = "-" if value is None else f"{value:{form}}{unit}"
    return ours if paper is None else f"{ours} ({paper:{'g' if unit else form}}{unit})"


def _all_figures(rows: Sequence[dict[str, Any]]) -> str:
    cells = []
    for row in rows:
        keys = [name.lower() for name in METRICS]
        figures = [_with_paper(row[f"{key}_mean"], row[f"paper_{key}"]) for key in keys]
        cells.append([row["row"], *figures])
    return _table(cells, ["", *METRICS])


def _costs(rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        [
            row["row"],
            _with_paper(_scaled(row["parameters"], 1e6), row.get("paper_params"), ".2f", " M"),
            _with_paper(_scaled(row["flops"], 1e9), row.get("paper_gflops"), ".2f", " G"),
            _with_paper(row["fps"], row.get("paper_fps")),
            _number(row["steps"], ","),
            _with_paper(_scaled(row["train_seconds"], 60), None, unit=" min"),
        ]
        for row in rows
    ]
    return _table(cells, ["", "parameters", "multiply-adds", "FPS", "steps", "training"])


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _cost_note(table: Table, rows: Sequence[dict[str, Any]], scale: str) -> str:
    height, width = table.input_sizes[scale]
    devices = list(dict.fromkeys(row["fps_on"] for row in rows if row["fps_on"]))
    fps_on = f" on {'; '.join(devices)}" if devices else ""
    return _WHAT_COSTS_ARE.format(height=height, width=width, fps_on=fps_on)


def _failures(rows: Sequence[dict[str, Any]]) -> str:
    blocks = []
    for row in rows:
        for one in row["failed"]:
            lines = "\n".join(f"    {line}" for line in one["reason"].splitlines())
            blocks.append(f"{row['row']}, seed {one['seed']}, failed:\n\n{lines}")
    return "\n\n".join(blocks)


def _undecided(pairs: Sequence[dict[str, Any]]) -> str:
    if not pairs:
        return "Of all pairs of students with an interval, each parts."
    lines = [
        f"{one['row']} over {one['other']}: {one['gain']:+.1f} {_pair(one['ci95'])}"
        for one in pairs
    ]
    return "Pairs of students whose difference has zero in its 95% interval:\n\n" + _list(lines)


def _making(content: dict[str, Any]) -> str:
    rows = content["rows"]
    commits = sorted({name for row in rows for name in row["commits"]})
    machines = sorted({name for row in rows for name in row["machines"]})
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    lines = [
        f"Commit: {', '.join(commits) or '-'}"
        + (" (not all rows are of one commit)" if len(commits) > 1 else ""),
        f"Versions: {versions}",
        f"Machine: {'; '.join(machines) or '-'}",
    ]
    if content["overrides"]:
        lines.append(f"**Overridden in all runs**: {' '.join(content['overrides'])}")
    commands = "\n".join(command for row in rows for command in row["commands"])
    return f"```\n{content['command']}\n```\n\n{_list(lines)}\n\nIts runs:\n\n```\n{commands}\n```"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(cells: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)
