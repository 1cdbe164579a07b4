"""What a run of benchmarks measured, as a table and as JSON."""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.outcome import Outcome, Spread
from benchmarks.pair import Against
from projects.clockdistill.engine.environment import commit, machine, versions

_HEADERS = ("what", "against", "ours", "theirs", "ratio (quartiles)", "target", "met")


def environment(against: Against = "self") -> dict[str, Any]:
    """Machine, threads, versions and commit: what the figures depend on."""
    found = {"machine": machine(), "threads": torch.get_num_threads(), "commit": commit()}
    found["load average"] = round(os.getloadavg()[0], 2)  # of the minute before
    packages = dict(versions())
    if against != "self":
        try:
            packages[against] = version(against)
        except PackageNotFoundError:  # a checkout on the path
            packages[against] = "unknown"
    return {**found, "versions": packages}


def described(found: Mapping[str, Any]) -> str:
    """`environment` in one line."""
    names = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"{found['machine']}, {found['threads']} threads, load average {found['load average']}, "
        f"commit {found['commit']}; {names}"
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table, one row a pair; medians, and quartiles of the ratio."""
    rows = [_row(outcome) for outcome in outcomes]
    align = ("left", "left", "right", "right", "right", "right", "left")
    return tabulate(rows, _HEADERS, tablefmt="github", colalign=align, disable_numparse=True)


def _row(outcome: Outcome) -> list[str]:
    pair, ratio = outcome.pair, Spread.of(outcome.ratios)
    return [
        pair.what,
        pair.reference,
        shown(Spread.of(outcome.our_sums).median, pair.unit),
        shown(Spread.of(outcome.their_sums).median, pair.unit),
        f"{ratio.median:.3g}x ({ratio.lower:.3g} to {ratio.upper:.3g})",
        str(pair.target),
        "yes" if outcome.met else "NO",
    ]


def details(outcome: Outcome) -> str:
    """What the table leaves out: the parts of each side, and what the check found."""
    lines = []
    for side, parts in (("ours", outcome.ours), ("theirs", outcome.theirs)):
        if len(parts) > 1:
            medians = ", ".join(
                f"{name} {shown(Spread.of(values).median, outcome.pair.unit)}"
                for name, values in parts.items()
            )
            lines.append(f"- {side}: {medians}")
    facts = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value:,}"
        for name, value in outcome.facts.items()
    )
    return "\n".join([*lines, f"- checked: {facts}"])


def shown(value: float, unit: str) -> str:
    """A value with a unit that suits its size."""
    if unit == "bytes":
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,.2f} s" if value >= 1 else f"{1000 * value:,.1f} ms"


def as_json(
    against: Against,
    settings: Mapping[str, Any],
    found: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    refused: Mapping[str, str],
) -> dict[str, Any]:
    """All that was measured.

    Args:
        against: whose code.
        settings: rounds and the like.
        found: see `environment`.
        outcomes: one a pair.
        refused: name of a pair that was not timed -> why.
    """
    return {
        "against": against,
        "settings": dict(settings),
        "environment": dict(found),
        "pairs": [outcome.as_json() for outcome in outcomes],
        "refused": dict(refused),
    }
