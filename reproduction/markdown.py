"""The page of a table."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from reproduction.tables import METRICS, Table

INTERVALS = """\
AP is the mean over the seeds, ± their standard deviation (n - 1). A gain is a difference of means,
over the undistilled student (`baseline`) unless a note names another row, with Welch's 95% t
interval. The interval covers the seeds: the initial weights of the heads, the order of the images,
flips, denoising noise. It does not cover the choice of training and test images. One seed has no
interval. The paper's figures were measured on its own data; on other data only order and signs can
be compared."""

COSTS = """\
Parameters and multiply-adds of the detector without its teacher at {height} x {width} pixels, by
`tools/analyze_model.py`.{fps} Training: all steps of one run, without start-up and evaluation, mean
over the seeds; machines differ, and two runs at the same time slow each other down. In brackets:
the paper's."""

DRAWN = (
    "Small detectors on synthkitti, **drawn scenes, not KITTI**: what can be compared with the "
    "paper is order and signs."
)


def markdown(table: Table, content: dict[str, Any], picture: str) -> str:
    """Returns the page.

    Args:
        table: what is reported.
        content: what the JSON holds, see `report.write_report`.
        picture: file name of the picture in the same folder.
    """
    rows, scale = content["rows"], content["scale"]
    remark = table.remarks.get(scale)
    parts = [
        f"# {table.heading}, scale {scale}: {table.title}",
        table.caption,
        "" if scale == "full" else DRAWN,
        _overview(table, rows),
        f"![picture]({picture})",
        INTERVALS,
        f"{remark[0].upper()}{remark[1:]}." if remark else "",
        _list(_notes(table, rows)),
        _failures(rows),
        "## Differences that are not significant",
        _not_significant(content["not_significant"], rows),
        "## All figures (the paper's in brackets)",
        _all_figures(rows),
        "## Costs",
        _costs(rows),
        _cost_note(table, rows, scale),
        "## How it was made",
        _making(content),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _notes(table: Table, rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        note, reference = row["note"], table.row(row["row"]).gain_over
        if reference not in ("", "baseline") and reference not in note:
            note = f"{note}; its gain is over {reference}" if note else f"gain over {reference}"
        if note:
            lines.append(f"{row['row']}: {note}")
    return lines


def _overview(table: Table, rows: Sequence[dict[str, Any]]) -> str:
    rivals = [name for name in table.rivals if any(row["row"] == name for row in rows)]
    headers = ["row", "seeds", "AP", "gain [95%]", *(f"over {name} [95%]" for name in rivals)]
    cells = []
    for row in rows:
        gains = [_gain(row, key) for key in ("gain", *(f"gain_over_{name}" for name in rivals))]
        seeds = " ".join(map(str, row["seeds"])) or "-"
        paper = [_figure(row["paper_ap"]), _figure(row["paper_gain"], form="+.1f")]
        cells.append([row["row"], seeds, _level(row), *gains, *paper])
    return _table(cells, [*headers, "paper: AP", "paper: gain"])


def _level(row: dict[str, Any]) -> str:
    """Returns the mean AP, and which seeds are missing."""
    parts = []
    if row["ap_mean"] is not None:
        spread = "" if row["ap_std"] is None else f" ± {row['ap_std']:.1f}"
        parts.append(f"{row['ap_mean']:.1f}{spread}")
    missing = {"FAILED": [one["seed"] for one in row["failed"]], "not run": row["not_run"]}
    for name, seeds in missing.items():
        if seeds:
            parts.append(f"{name} (seed {' '.join(map(str, seeds))})" if parts else name)
    return ", ".join(parts)


def _gain(row: dict[str, Any], key: str) -> str:
    if row.get(key) is None:
        return "-"
    ends = row[f"{key}_ci95"]
    return _signed(row[key]) + (f" [{_signed(ends[0])}, {_signed(ends[1])}]" if ends else "")


def _signed(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # + 0.0: "+0.0" also for what rounds to -0.0


def _figure(
    value: float | None,
    paper: float | None = None,
    form: str = ".1f",
    unit: str = "",
    unit_size: float = 1,
) -> str:
    """Returns our figure, and the paper's (already in its unit) in brackets where it gives one."""
    ours = "-" if value is None else f"{value / unit_size:{form}}{unit}"
    return ours if paper is None else f"{ours} ({paper:{'g' if unit else form}}{unit})"


def _all_figures(rows: Sequence[dict[str, Any]]) -> str:
    keys = [name.lower() for name in METRICS]
    cells = [
        [row["row"], *(_figure(row[f"{key}_mean"], row[f"paper_{key}"]) for key in keys)]
        for row in rows
    ]
    return _table(cells, ["", *METRICS])


def _has_fps(rows: Sequence[dict[str, Any]]) -> bool:
    """Returns whether the paper gives FPS: ours, of different machines, are shown only there."""
    return any(row.get("paper_fps") for row in rows)


def _costs(rows: Sequence[dict[str, Any]]) -> str:
    has_fps = _has_fps(rows)
    cells = [
        [
            row["row"],
            _figure(row["parameters"], row.get("paper_params"), ".2f", " M", 1e6),
            _figure(row["flops"], row.get("paper_gflops"), ".2f", " G", 1e9),
            *([_figure(row["fps"], row.get("paper_fps"))] if has_fps else []),
            "-" if row["steps"] is None else f"{row['steps']:,}",
            _figure(row["train_seconds"], unit=" min", unit_size=60),
        ]
        for row in rows
    ]
    fps = ["FPS"] if has_fps else []
    return _table(cells, ["", "parameters", "multiply-adds", *fps, "steps", "training"])


def _cost_note(table: Table, rows: Sequence[dict[str, Any]], scale: str) -> str:
    height, width = table.image[scale]
    devices = dict.fromkeys(row["fps_on"] for row in rows if row["fps_on"])
    fps = f" FPS: one image at a time on {'; '.join(devices)}." if _has_fps(rows) else ""
    return COSTS.format(height=height, width=width, fps=fps)


def _failures(rows: Sequence[dict[str, Any]]) -> str:
    blocks = []
    for row in rows:
        for one in row["failed"]:
            lines = "\n".join(f"    {line}" for line in one["reason"].splitlines())
            blocks.append(f"{row['row']}, seed {one['seed']}, failed:\n\n{lines}")
    return "\n\n".join(blocks)


def _not_significant(pairs: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> str:
    if sum(row["ap_std"] is not None for row in rows) < 2:
        return "Not known: an interval needs two seeds of two students."
    if not pairs:
        return "None: every such pair of students with an interval differs significantly."
    lines = (
        f"{pair['row']} over {pair['other']}: {_gain({**pair, 'gain_ci95': pair['ci95']}, 'gain')}"
        for pair in pairs
    )
    return (
        "Students whose gain is over the same row, in pairs with one another and with that row, "
        "where the difference has zero in its 95% interval:\n\n" + _list(lines)
    )


def _making(content: dict[str, Any]) -> str:
    commits = sorted({name for row in content["rows"] for name in row["commits"]})
    machines = sorted({name for row in content["rows"] for name in row["machines"]})
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    lines = [
        f"Commits of the runs: {', '.join(commits) or '-'}",
        f"Versions: {versions}",
        f"Machine: {'; '.join(machines) or '-'}",
    ]
    if content["overrides"]:
        lines.append(f"**Overridden in all runs**: {' '.join(content['overrides'])}")
    return (
        f"```\n{content['command']}\n```\n\n{_list(lines)}\n\n"
        "With `--dry-run` the command prints those of its runs."
    )


def _list(lines: Any) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(cells: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    return tabulate(cells, headers, tablefmt="github", disable_numparse=True)
