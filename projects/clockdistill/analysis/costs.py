"""The costs of one or more detectors as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tabulate import tabulate

from projects.clockdistill.analysis.flops import Flops
from projects.clockdistill.analysis.spread import Spread


@dataclass(frozen=True)
class Costs:
    """The costs of one detector for one image.

    Attributes:
        name: in table and JSON.
        parameters: trained and frozen; those with two names count once.
        flops: multiply-adds of one forward pass.
        activation_bytes: as `memory.peak_activation_bytes` measures them.
        seconds: of repeated forward passes.
        warmup: passes that ran before.
        device: of the passes.
    """

    name: str
    parameters: int
    flops: Flops
    activation_bytes: int
    seconds: Sequence[float]
    warmup: int
    device: str

    @property
    def fps(self) -> float:
        """Images per second, one after the other, at the median."""
        return 1 / Spread.of(self.seconds).median

    def as_json(self) -> dict[str, Any]:
        """Returns plain numbers in base units."""
        passes = {"warmup": self.warmup, "repeats": len(self.seconds)}
        return {
            "name": self.name,
            "parameters": self.parameters,
            "flops": self.flops.total,
            "flops_by_part": self.flops.by_part,
            "uncounted_operations": self.flops.uncounted,
            "activation_bytes": self.activation_bytes,
            "latency_s": {**asdict(Spread.of(self.seconds)), **passes},
            "fps": self.fps,
            "device": self.device,
            "threads": torch.get_num_threads(),
        }

    def column(self) -> dict[str, str]:
        """Returns the cells of the table by the title of the row."""
        latency = Spread.of([1000 * seconds for seconds in self.seconds])
        return {
            "parameters": f"{self.parameters / 1e6:.2f} M",
            "FLOPs (multiply-adds)": f"{self.flops.total / 1e9:.2f} G",
            **{f"- {part}": f"{n / 1e9:.2f} G" for part, n in self.flops.by_part.items()},
            "activations, peak": f"{self.activation_bytes / 1e6:.1f} MB",
            "latency, median": f"{latency.median:,.1f} ms",
            "latency, quartiles": (
                f"{latency.lower_quartile:,.1f} to {latency.upper_quartile:,.1f} ms"
            ),
            "images per second": f"{self.fps:.2f}",
        }


def costs_table(models: Sequence[Costs]) -> str:
    """Returns a Markdown table with one column per model."""
    columns = [model.column() for model in models]
    rows = [[title, *(column[title] for column in columns)] for title in columns[0]]
    headers = ["", *(model.name for model in models)]
    align = ("left", *["right"] * len(models))
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)


def uncounted_line(model: Costs) -> str:
    """Returns a line that names the operators whose arithmetic is in no figure."""
    names = ", ".join(
        f"{name.removeprefix('aten::')} {times}" for name, times in model.flops.uncounted.items()
    )
    return f"{model.name}, not counted (operator and calls): {names or 'none'}"
