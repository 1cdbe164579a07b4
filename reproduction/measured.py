"""The measured rows of a table: what its runs have left, and what statistics make of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from projects.clockdistill.evaluation.coco import load_ground_truth
from reproduction.costs import Measurement
from reproduction.plan import Plan
from reproduction.resampled_ap import cached_resampled_ap
from reproduction.runs import Run, result
from reproduction.statistics import Gain, Sample, gain, interval
from reproduction.table import METRICS, Row


def measured_rows(plan: Plan, costs: Mapping[str, Measurement]) -> list[dict[str, Any]]:
    """All rows of a table, also those without a figure, as they are written to JSON.

    Args:
        plan: its runs may or may not have run.
        costs: row name -> where the costs of its detector are.
    """
    rows = plan.table.rows_at(plan.options.scale)
    records = {row.name: [(run, result(run)) for run in plan.runs[row.name]] for row in rows}
    samples = {name: _sample(pairs) for name, pairs in records.items()}
    return [
        {
            **_outcome(row, records[row.name], plan),
            **_figures(records[row.name], samples[row.name]),
            **_gains(row, samples, plan),
            **_paper(row, plan),
            **_costs(costs.get(row.name), records[row.name]),
            "config": row.configs[plan.options.scale],
            "note": row.note,
        }
        for row in rows
    ]


def undecided_pairs(plan: Plan) -> list[tuple[str, str, Gain]]:
    """Pairs of students whose difference has zero in its interval."""
    names = [row.name for row in plan.table.rows_at(plan.options.scale) if row.seeded]
    samples = {name: _sample([(run, result(run)) for run in plan.runs[name]]) for name in names}
    found = []
    for index, name in enumerate(names):
        for other in names[:index]:
            sample, reference = samples[name], samples[other]
            if sample is None or reference is None:
                continue
            difference = gain(sample, reference)
            if difference.ci95 is not None and not difference.parts:
                found.append((name, other, difference))
    return found


Records = list[tuple[Run, dict[str, Any] | None]]


def _finished(records: Records) -> Records:
    return [(run, record) for run, record in records if record and record["status"] == "ok"]


def _sample(records: Records) -> Sample | None:
    finished = _finished(records)
    if not finished:
        return None
    resampled = [_resampled(run) for run, _ in finished]
    complete = all(values is not None for values in resampled)
    return Sample(
        [record["metrics"]["AP"] for _, record in finished],
        np.stack(resampled) if complete else None,
    )


def _resampled(run: Run) -> np.ndarray | None:
    return cached_resampled_ap(lambda: load_ground_truth(run.test_dataset), run.detections)


def _outcome(row: Row, records: Records, plan: Plan) -> dict[str, Any]:
    """Which seeds there are, which failed and which did not run."""
    seeds = plan.options.seeds if row.seeded else (0,)
    done, failed, missing = [], [], []
    for seed, (_, record) in zip(seeds, records, strict=True):
        if record is None:
            missing.append({"seed": seed, "reason": "not run"})
        elif record["status"] == "ok":
            done.append(seed)
        elif record["status"] == "failed":
            failed.append({"seed": seed, "reason": record["reason"]})
        else:
            missing.append({"seed": seed, "reason": "interrupted"})
    status = "failed" if failed else "not run" if not done else "incomplete" if missing else "ok"
    return {
        "row": row.name,
        "status": status,
        "seeds": done,
        "failed": failed,
        "not_run": missing,
    }


def _figures(records: Records, sample: Sample | None) -> dict[str, Any]:
    metrics = [record["metrics"] for _, record in _finished(records)]
    found: dict[str, Any] = {"ap": list(sample.ap) if sample else []}
    found["ap_mean"] = sample.mean if sample else None
    found["ap_std"] = sample.std if sample else None
    found["ap_ci95"] = interval(sample) if sample else None
    for name in METRICS[1:]:
        values = [one[name] for one in metrics if one[name] is not None]
        found[f"{name.lower()}_mean"] = float(np.mean(values)) if values else None
    return found


def _gains(row: Row, samples: dict[str, Sample | None], plan: Plan) -> dict[str, Any]:
    found = _gain(row.name, row.compared_with, samples, "gain")
    for rival in plan.table.rivals:
        if rival in samples and rival != row.name and row.teacher:
            found |= _gain(row.name, rival, samples, f"gain_over_{rival}")
    return found


def _gain(name: str, other: str, samples: dict[str, Sample | None], key: str) -> dict[str, Any]:
    sample, reference = samples[name], samples.get(other)
    if sample is None or reference is None:
        return {key: None, f"{key}_ci95": None, f"{key}_welch95": None}
    found = gain(sample, reference)
    return {
        key: found.gain,
        f"{key}_ci95": found.ci95,
        f"{key}_welch95": found.welch95,
        f"{key}_ci95_over": found.over,
    }


def _paper(row: Row, plan: Plan) -> dict[str, Any]:
    found = {f"paper_{name.lower()}": row.paper.get(name) for name in METRICS}
    extra = {f"paper_{name.lower()}": row.paper[name] for name in row.paper if name not in METRICS}
    reference = plan.table.row(row.compared_with).paper if row.compared_with else {}
    both = "AP" in row.paper and "AP" in reference
    difference = round(row.paper["AP"] - reference["AP"], 1) if both else None
    return {**found, **extra, "paper_gain": difference}


def _costs(measurement: Measurement | None, records: Records) -> dict[str, Any]:
    figures = (measurement.figures() if measurement else None) or {}
    finished = _finished(records)
    seconds = [record["train_seconds"] for _, record in finished]
    known = bool(seconds) and None not in seconds
    return {
        "parameters": figures.get("parameters"),
        "flops": figures.get("flops"),
        "fps": figures.get("fps"),
        "fps_on": f"{figures['device']} ({figures['threads']} thread)" if figures else None,
        "train_seconds": float(np.mean(seconds)) if known else None,
        "steps": finished[0][1]["steps"] if finished else None,
        "commits": sorted({name for _, record in finished for name in record["commits"]}),
        "machines": sorted({record["machine"] for _, record in finished}),
        "commands": [record["command"] for _, record in records if record],
    }
