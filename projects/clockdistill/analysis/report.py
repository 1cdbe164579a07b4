"""The costs of one or more detectors as a table and as JSON."""

from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from projects.clockdistill.analysis.flops import Flops
from projects.clockdistill.analysis.latency import Latency


@dataclass(frozen=True)
class Costs:
    """What one detector costs for one image.

    Attributes:
        name: how table and JSON call it.
        parameters: numbers that are learnt or frozen; those with two names count once.
        flops: multiply-adds of one forward pass.
        activation_bytes: see `memory.peak_activation_bytes`.
        latency: of single images.
    """

    name: str
    parameters: int
    flops: Flops
    activation_bytes: int
    latency: Latency

    def as_json(self) -> dict[str, Any]:
        """Plain numbers in base units."""
        lower, median, upper = self.latency.quartiles
        return {
            "name": self.name,
            "parameters": self.parameters,
            "flops": self.flops.total,
            "flops_by_part": self.flops.by_part,
            "uncounted_operations": self.flops.uncounted,
            "activation_bytes": self.activation_bytes,
            "latency_s": {
                "median": median,
                "lower_quartile": lower,
                "upper_quartile": upper,
                "warmup": self.latency.warmup,
                "repeats": len(self.latency.seconds),
            },
            "fps": self.latency.fps,
            "device": self.latency.device,
            "threads": self.latency.threads,
        }

    def column(self) -> dict[str, str]:
        """What the table shows, by the row's title."""
        lower, median, upper = (f"{1000 * seconds:,.1f}" for seconds in self.latency.quartiles)
        return {
            "parameters": f"{self.parameters / 1e6:.2f} M",
            "FLOPs (multiply-adds)": f"{self.flops.total / 1e9:.2f} G",
            **{f"- {part}": f"{n / 1e9:.2f} G" for part, n in self.flops.by_part.items()},
            "activations, peak": f"{self.activation_bytes / 1e6:.1f} MB",
            "latency, median": f"{median} ms",
            "latency, quartiles": f"{lower} to {upper} ms",
            "images per second": f"{self.latency.fps:.2f}",
        }


def table(models: list[Costs]) -> str:
    """A Markdown table, one column per model."""
    columns = [model.column() for model in models]
    rows = [[title, *(column[title] for column in columns)] for title in columns[0]]
    headers = ["", *(model.name for model in models)]
    align = ("left", *["right"] * len(models))
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)


def uncounted(model: Costs) -> str:
    """One line that names the operators whose arithmetic is in no figure."""
    names = ", ".join(
        f"{name.removeprefix('aten::')} {times}" for name, times in model.flops.uncounted.items()
    )
    return f"{model.name}, not counted (operator and calls): {names or 'none'}"
