"""How the time of a training step grows: with tokens, queries, objects per image, and images.

    python benchmarks/growth.py --json benchmarks/results/growth.json \
        --plot benchmarks/results/growth.png

DINO R18 on drawn images. Exponents are fitted to the upper half of each axis; 1 is proportional.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# as a script it has only benchmarks/ on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tabulate import tabulate
from torch import nn

from benchmarks.measuring import take_turns
from benchmarks.models import build, build_trainer, detector_config, drawn_batch
from benchmarks.pairs.attention import level_shapes
from benchmarks.report import describe, environment, write_json
from benchmarks.run import add_measuring
from benchmarks.scale import FULL, QUICK, Scale
from projects.clockdistill.analysis.parts import PartCounter

NOTICEABLE = 0.1  # of the step
STEP = "step"
_MODULES = {
    "backbone, neck": ("backbone", "neck"),
    "encoder": ("transformer.encoder",),
    "decoder": ("transformer.decoder",),
    "matching": ("criterion.matcher",),
    "losses": ("criterion",),
    "other forward": ("",),
}
PARTS = (*_MODULES, "backward", "optimiser")

Growth = Mapping[str, Any]  # an entry of the JSON file


def step_by_parts(
    detector: nn.Module, batched_inputs: list[dict[str, Any]]
) -> Callable[[], dict[str, float]]:
    """Returns a training step that returns the seconds of `PARTS` and, as their sum, of `STEP`.

    Clipping and the check of the losses count as backward.

    Args:
        detector: one of the multi-scale families; it keeps the hooks.
        batched_inputs: detectron2's dicts.
    """
    clock = PartCounter(time.perf_counter, "backward")  # where no other part runs
    for name, paths in _MODULES.items():
        for path in paths:
            clock.follow(name, detector.get_submodule(path))
    trainer = build_trainer(detector, batched_inputs)
    trainer.optimizer.register_step_pre_hook(lambda *_: clock.enter("optimiser"))
    trainer.optimizer.register_step_post_hook(lambda *_: clock.leave())

    def run() -> dict[str, float]:
        clock.update()
        clock.counts.clear()
        trainer.run_step()
        clock.update()
        return {**clock.counts, STEP: sum(clock.counts.values())}

    return run


def axes(quick: bool) -> dict[str, dict[int, Scale]]:
    """Returns what grows: for each quantity its values, and the sizes of a step at each.

    The sizes lie around a quarter of the targets' image, so that eight of them fit into memory.

    Args:
        quick: tiny sizes and few values.
    """
    if quick:
        base = replace(QUICK, batch=1)
        areas, queries, objects, images = (1, 4), (6, 12), (1, 4), (1, 2)
    else:
        height, width = FULL.height // 2, FULL.width // 2
        base = replace(FULL, height=height, width=width, batch=1, queries=900)
        areas = (0.5, 1, 2, 4, 6, 8)  # from 1,431 tokens, of which 900 become queries
        queries, objects = (150, 300, 600, 1200, 1800, 2400), (2, 8, 32, 128, 256, 512)
        images = (1, 2, 3, 4, 6, 8)
    sized = [
        replace(base, height=round(base.height * a**0.5), width=round(base.width * a**0.5))
        for a in areas
    ]
    return {
        "tokens": {tokens(scale): scale for scale in sized},
        "queries": {n: replace(base, queries=n) for n in queries},
        "objects per image": {n: replace(base, objects=n) for n in objects},
        "images": {n: replace(base, batch=n) for n in images},
    }


def tokens(scale: Scale) -> int:
    """Returns the encoder's tokens per image."""
    return sum(height * width for height, width in level_shapes(scale))


def measure(axis: str, scales: Mapping[int, Scale], rounds: int) -> Growth:
    """Times the parts of a step; the steps of all values take turns, the first do not count.

    Args:
        axis: the quantity that grows.
        scales: sizes of the step at each value.
        rounds: their number.
    """
    steps = {}
    for value, scale in scales.items():
        detector = build(detector_config("dino", 18, scale))
        steps[value] = step_by_parts(detector, drawn_batch(scale, scale.batch, num_classes=80))
    take_turns(steps, rounds=1)
    taken = take_turns(steps, rounds).values()
    medians = {
        part: [float(np.median([seconds[part] for seconds in steps])) for steps in taken]
        for part in (*PARTS, STEP)
    }
    return summarize(axis, list(scales), medians)


def summarize(axis: str, values: list[int], medians: Mapping[str, list[float]]) -> Growth:
    """Adds exponents to the seconds of each part, and says where matching becomes noticeable."""
    shares = [part / step for part, step in zip(medians["matching"], medians[STEP], strict=True)]
    slow = [value for value, share in zip(values, shares, strict=True) if share >= NOTICEABLE]
    start = f"{NOTICEABLE:.0%} of the step from {slow[0]} {axis} on" if slow else "hardly any time"
    return {
        "axis": axis,
        "values": values,
        "parts": {
            part: {"seconds": seconds, "exponent": exponent(values, seconds)}
            for part, seconds in medians.items()
        },
        "matching": f"matching takes {start}: at most {max(shares):.1%}",
    }


def upper_half(values: Sequence[float]) -> Sequence[float]:
    """Returns the upper half, two values at least; below it constant work hides the growth."""
    return values[min(len(values) // 2, len(values) - 2) :]


def exponent(values: Sequence[float], seconds: Sequence[float]) -> float:
    """Returns b of seconds = a * value ** b, fitted to the upper half."""
    x, y = np.log(upper_half(values)), np.log(upper_half(seconds))
    return float(np.polyfit(x, y, 1)[0])


def table(growths: Sequence[Growth]) -> str:
    """Returns exponents, and in brackets the part's share of the step at the largest value."""
    headers = ["exponent (share)"]
    for growth in growths:
        upper = upper_half(growth["values"])
        headers.append(f"{growth['axis']}, {upper[0]:,} to {upper[-1]:,}")
    rows = []
    for name in (STEP, *PARTS):
        row = [name]
        for growth in growths:
            part, step = growth["parts"][name], growth["parts"][STEP]
            share = part["seconds"][-1] / step["seconds"][-1]
            row.append(f"{part['exponent']:.2f} ({share:.0%})")
        rows.append(row)
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def save_picture(path: Path, heading: str, growths: Sequence[Growth]) -> None:
    """Draws one panel per axis: seconds of the parts, and a broken line for proportional growth."""
    figure = Figure(figsize=(1.5 + 3.9 * len(growths), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(growths), sharey=True, squeeze=False)[0]
    figure.suptitle(heading, fontsize=11)
    for panel, growth in zip(panels, growths, strict=True):
        _draw(panel, growth)
    panels[0].set_ylabel("seconds")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _draw(panel: Axes, growth: Growth) -> None:
    values, step = growth["values"], growth["parts"][STEP]
    for name, part in growth["parts"].items():
        style = {"color": "black", "linewidth": 2} if name == STEP else {"linewidth": 1}
        panel.plot(values, part["seconds"], marker="o", markersize=3, label=name, **style)
    linear = [step["seconds"][-1] * value / values[-1] for value in values]
    panel.plot(values, linear, "--", color="grey", linewidth=1, label="proportional")
    title = f"step: exponent {step['exponent']:.2f}"
    panel.set(xscale="log", yscale="log", xlabel=growth["axis"], title=title)
    panel.set_xticks(values, [f"{value:,}" for value in values], fontsize=8, rotation=30)
    panel.set_xticks([], minor=True)
    panel.grid(alpha=0.3)


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where to write the picture")
    add_measuring(parser, rounds=3)
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found = environment()
    growths = []
    for axis, scales in axes(arguments.quick).items():
        print(f"measuring: {axis}", flush=True)
        growths.append(measure(axis, scales, arguments.rounds))
    lines = [f"{growth['axis']}: {growth['matching']}" for growth in growths]
    print("", table(growths), "", *lines, describe(found), sep="\n")
    if arguments.json is not None:
        settings = {"rounds": arguments.rounds, "quick": arguments.quick}
        write_json(arguments.json, {**settings, "environment": found, "growth": growths})
    if arguments.plot is not None:
        save_picture(arguments.plot, f"a training step of DINO R18: {found['machine']}", growths)


if __name__ == "__main__":
    main()
