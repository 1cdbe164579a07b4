"""How the time of a training step grows: with tokens, queries, objects per image, and images.

    python benchmarks/growth.py --json benchmarks/results/growth.json \
        --plot benchmarks/results/growth.png

DINO R18 on drawn images. Exponents are fitted to the upper half of each axis; 1 is proportional.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# as a script it has only benchmarks/ on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from matplotlib.figure import Figure
from tabulate import tabulate

from benchmarks.models import build, build_trainer, detector_config, drawn_batch
from benchmarks.pair import FULL, Scale
from benchmarks.pairs.attention import level_shapes
from benchmarks.report import environment, write_json
from benchmarks.run import add_measuring

MODULES = {
    "backbone": "backbone",
    "neck": "neck",
    "encoder": "transformer.encoder",
    "decoder": "transformer.decoder",
    "matching": "criterion.matcher",
    "criterion": "criterion",
    "forward": "",
}

Growth = Mapping[str, Any]  # an entry of the JSON file


def axes(quick: bool) -> dict[str, dict[int, Scale]]:
    """Returns what grows: for each quantity its values, and the sizes of a step at each.

    The sizes lie around a quarter of the targets' image, so that eight of them fit into memory.

    Args:
        quick: small models and two values of each quantity.
    """
    base = replace(FULL, height=201, width=666, batch=1, queries=900, small_models=quick)
    # the smallest image has 1,431 tokens, of which 900 become queries
    sizes = [(round(201 * area**0.5), round(666 * area**0.5)) for area in (0.5, 1, 2, 4, 6, 8)]
    scales = [replace(base, height=height, width=width) for height, width in sizes]
    queries, objects = (150, 300, 600, 1200, 1800, 2400), (2, 8, 32, 128, 256, 512)
    grown = {
        "tokens": {tokens(scale): scale for scale in scales},
        "queries": {number: replace(base, queries=number) for number in queries},
        "objects per image": {number: replace(base, objects=number) for number in objects},
        "images": {number: replace(base, batch=number) for number in (1, 2, 3, 4, 6, 8)},
    }
    if quick:
        return {axis: dict(list(values.items())[:2]) for axis, values in grown.items()}
    return grown


def tokens(scale: Scale) -> int:
    """Returns the encoder's tokens per image."""
    return sum(height * width for height, width in level_shapes(scale))


def step_by_parts(scale: Scale) -> Callable[[], dict[str, float]]:
    """Returns a training step that returns the seconds of its parts and, as their sum, of itself.

    Clipping and the check of the losses count as backward.
    """
    detector = build(detector_config("dino", 18, scale))
    trainer = build_trainer(detector, drawn_batch(scale, scale.batch))
    taken: Counter[str] = Counter()

    def start(name: str) -> None:
        taken[name] -= time.perf_counter()

    def stop(name: str) -> None:
        taken[name] += time.perf_counter()

    for name, path in MODULES.items():
        module = detector.get_submodule(path)
        module.register_forward_pre_hook(lambda *_, name=name: start(name))
        module.register_forward_hook(lambda *_, name=name: stop(name))
    trainer.optimizer.register_step_pre_hook(lambda *_: start("optimiser"))
    trainer.optimizer.register_step_post_hook(lambda *_: stop("optimiser"))

    def run() -> dict[str, float]:
        taken.clear()
        start("step")
        trainer.run_step()
        stop("step")
        features = taken["backbone"] + taken["neck"]
        named = features + taken["encoder"] + taken["decoder"] + taken["criterion"]
        return {
            "backbone, neck": features,
            "encoder": taken["encoder"],
            "decoder": taken["decoder"],
            "matching": taken["matching"],
            "losses": taken["criterion"] - taken["matching"],
            "other forward": taken["forward"] - named,
            "backward": taken["step"] - taken["forward"] - taken["optimiser"],
            "optimiser": taken["optimiser"],
            "step": taken["step"],
        }

    return run


def measure(axis: str, scales: Mapping[int, Scale], rounds: int) -> Growth:
    """Times the parts of a step; the steps of all values take turns, the first do not count.

    Args:
        axis: the quantity that grows.
        scales: sizes of the step at each value.
        rounds: their number.
    """
    values = list(scales)
    steps = [step_by_parts(scale) for scale in scales.values()]
    taken = [[step() for step in steps] for _ in range(1 + rounds)][1:]
    parts = {}
    for name in taken[0][0]:
        times = [[step[name] for step in steps] for steps in taken]
        seconds = np.median(times, axis=0).tolist()
        parts[name] = {"seconds": seconds, "exponent": exponent(values, seconds)}
    return {"axis": axis, "values": values, "parts": parts}


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
    for name in growths[0]["parts"]:
        row = [name]
        for growth in growths:
            part, step = growth["parts"][name], growth["parts"]["step"]
            share = part["seconds"][-1] / step["seconds"][-1]
            row.append(f"{part['exponent']:.2f} ({share:.0%})")
        rows.append(row)
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def save_picture(path: Path, heading: str, growths: Sequence[Growth]) -> None:
    """Draws one panel per axis: seconds of the parts, and a broken line for proportional growth."""
    figure = Figure(figsize=(1.5 + 3.9 * len(growths), 4.2), layout="constrained")
    figure.suptitle(heading)
    panels = figure.subplots(1, len(growths), sharey=True, squeeze=False)[0]
    for panel, growth in zip(panels, growths, strict=True):
        values, step = growth["values"], growth["parts"]["step"]
        for name, part in growth["parts"].items():
            panel.plot(values, part["seconds"], marker="o", markersize=3, label=name)
        proportional = [step["seconds"][-1] * value / values[-1] for value in values]
        panel.plot(values, proportional, "--", color="grey", label="proportional")
        title = f"step: exponent {step['exponent']:.2f}"
        panel.set(xscale="log", yscale="log", xlabel=growth["axis"], title=title)
    panels[0].set_ylabel("seconds")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


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
    print("", table(growths), "", found, sep="\n")
    if arguments.json is not None:
        settings = {"rounds": arguments.rounds, "quick": arguments.quick}
        write_json(arguments.json, {**settings, "environment": found, "growth": growths})
    if arguments.plot is not None:
        save_picture(arguments.plot, f"a training step of DINO R18: {found['machine']}", growths)


if __name__ == "__main__":
    main()
