"""What a section of `benchmarks/gpu.py` gets and fills."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch

Row = dict[str, Any]


@dataclass
class Run:
    """One run of one section.

    Attributes:
        device: what is measured.
        quick: take tiny sizes, to see that everything runs.
        deadline: of `time.monotonic`; a section starts no measurement after it.
        rows: the table. Cells may be filled in after a row was added.
        notes: what a reader must know: targets, what was left out.
        failures: what is wrong; with one of them the program ends with an error.
    """

    device: torch.device
    quick: bool
    deadline: float
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def on_cuda(self) -> bool:
        """Returns whether the device is a CUDA GPU."""
        return self.device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        """Returns the time until the deadline, below 0 after it."""
        return self.deadline - time.monotonic()

    def has_time_for(self, what: str, seconds: float = 0.0) -> bool:
        """Returns whether so many seconds are left, and notes what is left out otherwise."""
        if self.seconds_left > seconds:
            return True
        self.notes.append(f"left out, no time: {what}")
        return False

    def add(self, **cells: Any) -> Row:
        """Adds a row and returns it."""
        self.rows.append(cells)
        return cells

    def check(self, row: Row, ok: bool) -> None:
        """Writes into the last column whether a row is as it must be."""
        row["ok"] = "yes" if ok else "NO"
        if not ok:
            self.failures.append(", ".join(str(cell) for cell in list(row.values())[:2]))

    def target(self, what: str, value: float, bound: str, limit: float) -> None:
        """Notes a target and whether it is met; quick sizes have none.

        Args:
            what: the figure, in words.
            value: measured.
            bound: ">=" or "<=".
            limit: the target.
        """
        if not self.quick and self.on_cuda:
            met = value >= limit if bound == ">=" else value <= limit
            word = "met" if met else "MISSED"
            self.notes.append(f"target {word}: {what} {value:.3g}, wanted {bound} {limit:g}")
