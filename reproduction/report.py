"""A table as JSON, CSV, Markdown and a picture."""

import csv
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from projects.clockdistill.engine import environment
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.errors import UserError
from projects.clockdistill.visualization.bars import Bar, save_bars
from projects.clockdistill.visualization.lines import save_lines
from reproduction.costs import Costs
from reproduction.execution import result, status_of
from reproduction.markdown import markdown
from reproduction.plan import Plan
from reproduction.statistics import mean_and_std, welch_interval
from reproduction.tables import METRICS, Curve, Row, Table

# What runs have left; all other figures of a row follow from these and from the paper's.
MEASURED = (
    *("row", "status", "seeds", "failed", "not_run", "ap"),
    *(f"{name.lower()}_mean" for name in METRICS[1:]),
    *("parameters", "flops", "fps", "fps_on", "train_seconds", "steps", "commits", "machines"),
)


def measured(plan: Plan, command: str) -> dict[str, Any]:
    """Returns what the runs of a table have left, run now or before.

    Args:
        plan: the table's runs.
        command: runs all of them.
    """
    return {
        "table": plan.table.name,
        "scale": plan.scale,
        "rows": [_measured_row(plan, row) for row in plan.rows],
        "command": command,
        "overrides": list(plan.overrides),
        "versions": environment.versions(),
    }


def _measured_row(plan: Plan, row: Row) -> dict[str, Any]:
    asked = plan.seeds_of(row)
    found = {seed: result(plan.run(row, seed)) for seed in plan.known_seeds(row)}
    results = {
        seed: one or {"status": "not run"} for seed, one in found.items() if one or seed in asked
    }
    done = {seed: one for seed, one in results.items() if one["status"] == "ok"}
    failed = {seed: one for seed, one in results.items() if one["status"] == "failed"}
    not_run = [seed for seed in results if seed not in done and seed not in failed]
    status = "failed" if failed else "not run" if not done else "incomplete" if not_run else "ok"
    costs = Costs(plan, row).figures()
    return {
        "row": row.name,
        "status": status,
        "seeds": list(done),
        "failed": [{"seed": seed, "reason": one["reason"]} for seed, one in failed.items()],
        "not_run": not_run,
        "ap": [one["metrics"]["AP"] for one in done.values()],
        **{
            f"{name.lower()}_mean": _mean([one["metrics"][name] for one in done.values()])
            for name in METRICS[1:]
        },
        **{name: costs.get(name) for name in ("parameters", "flops", "fps")},
        "fps_on": f"{costs['device']} ({costs['threads']} thread)" if costs else None,
        "train_seconds": _mean([one["train_seconds"] for one in done.values()]),
        "steps": next((one["steps"] for one in done.values()), None),
        "commits": sorted({name for one in done.values() for name in one["commits"]}),
        "machines": sorted({one["machine"] for one in done.values()}),
    }


def lacking(folder: Path, plan: Plan, rows: Sequence[Row] = ()) -> list[str]:
    """Returns which finished runs of the stored table a new one would not have.

    Args:
        folder: of the tables.
        plan: the table's runs.
        rows: which of its rows are run first.
    """
    if not _stem(folder, plan.table, plan.scale).with_suffix(".json").is_file():
        return []
    finished = {row["row"]: row["seeds"] for row in stored(folder, plan.table, plan.scale)["rows"]}
    lost = []
    for row in plan.rows:
        kept = set(plan.seeds_of(row)) if row in rows else set()
        kept |= {seed for seed in plan.known_seeds(row) if status_of(plan.run(row, seed)) == "ok"}
        lacks = [str(seed) for seed in finished.get(row.name, ()) if seed not in kept]
        if lacks:
            lost.append(f"{row.name} (seed {' '.join(lacks)})")
    return lost


def check_keeps_results(folder: Path, plan: Plan, rows: Sequence[Row] = ()) -> None:
    """Refuses to replace a stored table by one with fewer finished runs.

    Args:
        folder: of the tables.
        plan: the table's runs.
        rows: which of its rows are run first.

    Raises:
        UserError: names the runs that the new table would lack.
    """
    lost = lacking(folder, plan, rows)
    if lost:
        raise UserError(
            f"{_stem(folder, plan.table, plan.scale)}.json stays as it is: it has results that are "
            f"neither in {plan.folder} nor run by this command, or whose runs failed or have "
            f"another teacher now: {', '.join(lost)}. Fix: count them as done with --add, name "
            "another folder with --results, or run all rows and seeds"
        )


def _mean(values: Sequence[float | None]) -> float | None:
    return mean_and_std([value for value in values if value is not None])[0]


def stored(folder: Path, table: Table, scale: str) -> dict[str, Any]:
    """Returns what the JSON of a table holds.

    Raises:
        UserError: if there is none.
    """
    file = _stem(folder, table, scale).with_suffix(".json")
    if not file.is_file():
        raise UserError(f"{file}: there is no such file. Fix: run the table without --render")
    content = json.loads(file.read_text())
    unknown = {row["row"] for row in content["rows"]} - {row.name for row in table.rows}
    if unknown:
        raise UserError(
            f"{file} has rows that the table no longer has: {', '.join(sorted(unknown))}. "
            "Fix: delete it, and run the table without --render"
        )
    return content


def write_report(folder: Path, table: Table, content: dict[str, Any]) -> list[Path]:
    """Writes the four files of a table.

    Args:
        folder: made if need be.
        table: what is reported.
        content: `measured` or `stored` figures. Whatever follows from them is computed again.

    Returns:
        The files: Markdown, JSON, CSV, picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # rounded before the statistics, too: they are those of what is stored
    content = _rounded(_with_statistics(table, _rounded(content)))
    stem = _stem(folder, table, content["scale"])
    files = [stem.with_suffix(suffix) for suffix in (".md", ".json", ".csv", ".png")]
    with atomic_write(files[0], "w") as handle:
        handle.write(markdown(table, content, picture=files[3].name))
    with atomic_write(files[1], "w") as handle:
        handle.write(json.dumps(content, indent=2) + "\n")
    rows = [_flat(row) for row in content["rows"]]
    with atomic_write(files[2], "w") as handle:
        writer = csv.DictWriter(handle, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    _save_picture(files[3], table, content)
    return files


def _stem(folder: Path, table: Table, scale: str) -> Path:
    return folder / f"{table.heading.lower().replace(' ', '')}_{scale}"


def _rounded(content: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(content), parse_float=lambda digits: round(float(digits), 4))


def _with_statistics(table: Table, content: dict[str, Any]) -> dict[str, Any]:
    ap = {row["row"]: row["ap"] for row in content["rows"]}
    rows = [
        {
            **{key: row[key] for key in MEASURED},
            **_statistics(table, table.row(row["row"]), ap),
            "config": table.row(row["row"]).configs[content["scale"]],
            "note": table.row(row["row"]).note,
        }
        for row in content["rows"]
    ]
    students = [table.row(name) for name in ap if not table.row(name).is_teacher]
    pairs = [
        _difference(ap, row.name, other.name)
        for other, row in combinations(students, 2)
        if _are_compared(row, other)
    ]
    undecided = [pair for pair in pairs if pair["ci95"] and pair["ci95"][0] <= 0 <= pair["ci95"][1]]
    kept = {key: content[key] for key in ("table", "scale", "command", "overrides", "versions")}
    return {**kept, "rows": rows, "not_significant": undecided}


def _are_compared(row: Row, other: Row) -> bool:
    """Returns whether one's gain is over the other, or both gains are over the same row."""
    if row.name == other.gain_over or other.name == row.gain_over:
        return True
    return row.gain_over != "" and row.gain_over == other.gain_over


def _statistics(table: Table, row: Row, ap: dict[str, list[float]]) -> dict[str, Any]:
    mean, std = mean_and_std(ap[row.name])
    found = {"ap_mean": mean, "ap_std": std}
    compared = {"gain": row.gain_over}
    if row.teachers:
        # never with a rival of fewer steps: the difference would be that of the steps
        rivals = [table.row(name) for name in table.rivals if name in ap and name != row.name]
        longer = [rival.name for rival in rivals if rival.steps >= row.steps]
        compared |= {f"gain_over_{name}": name for name in longer}
    for key, other in compared.items():
        difference = _difference(ap, row.name, other)
        found |= {key: difference["gain"], f"{key}_ci95": difference["ci95"]}
    found |= {f"paper_{name.lower()}": row.paper.get(name) for name in METRICS}
    found |= {f"paper_{name.lower()}": value for name, value in row.paper.items()}
    reference = table.row(row.gain_over).paper if row.gain_over else {}
    known = "AP" in row.paper and "AP" in reference
    return {**found, "paper_gain": row.paper["AP"] - reference["AP"] if known else None}


def _difference(ap: dict[str, list[float]], name: str, other: str) -> dict[str, Any]:
    """Returns how much one row is better than another, with Welch's 95% interval over seeds."""
    values, others = ap[name], ap.get(other, [])
    gain = _mean(values) - _mean(others) if values and others else None
    return {"row": name, "other": other, "gain": gain, "ci95": welch_interval(values, others)}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row with one figure in each cell."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        if key in ("seeds", "ap", "commits"):
            cells[key] = " ".join(map(str, value))
        elif key.endswith("_ci95"):
            cells[f"{key}_low"], cells[f"{key}_high"] = value or (None, None)
        elif key not in ("failed", "not_run", "machines", "note"):
            cells[key] = value
    return cells


def _save_picture(path: Path, table: Table, content: dict[str, Any]) -> None:
    rows, heading = content["rows"], f"{table.heading}, scale {content['scale']}: {table.title}"
    if table.curve is not None:
        _save_curve(path, heading, table.curve, {row["row"]: row["ap"] for row in rows})
        return
    levels = [
        Bar(row["ap_mean"], points=row["ap"], marker=row["paper_ap"], text=row["status"])
        for row in rows
    ]
    gains = [Bar(row["gain"], row["gain_ci95"], marker=row["paper_gain"]) for row in rows]
    save_bars(
        path,
        heading,
        [row["row"] for row in rows],
        {"reached": levels, "gain": gains},
        label="AP",
        interval_name="95% interval over seeds (Welch)",
        marker_name="the paper, on its own data",
    )


def _save_curve(path: Path, heading: str, curve: Curve, ap: dict[str, list[float]]) -> None:
    def position(x: float | str) -> float | None:
        return _mean(ap[x]) if isinstance(x, str) else x

    lines = {
        name: [(position(x), ap[row]) for x, row in points.items() if position(x) is not None]
        for name, points in curve.lines.items()
    }
    labels = {"x_label": curve.label, "y_label": "AP"}
    save_lines(path, heading, lines, log_x=curve.is_numeric, **labels)
