"""Which operators a training step or an inference spends its time in.

    python benchmarks/profile.py --config-file projects/clockdistill/configs/dino_r18_kitti.py
    python benchmarks/profile.py --config-file ... --step inference --height 402 --width 1333

By torch's profiler, on a drawn batch and random weights: neither data nor checkpoints are needed.
Of a distillation config the whole step is profiled, and in inference the student. Any key of the
config can be overridden at the end of the line.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # As a script it finds benchmarks/ on the path, where this very file would hide Python's own.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
from detectron2.config import instantiate
from omegaconf import DictConfig
from tabulate import tabulate
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from benchmarks.command_line import count
from benchmarks.models import inference
from benchmarks.report import described, environment
from benchmarks.scale import FULL
from benchmarks.scenes import drawn_batch
from benchmarks.training import training_step
from projects.clockdistill.engine.config_file import ConfigError, load_config


def operators(run: Callable[[], Any], warmup: int, rounds: int) -> list[FunctionEventAvg]:
    """What the CPU did in some runs, most expensive operator first.

    Args:
        run: what to profile.
        warmup: runs before.
        rounds: runs that count.
    """
    for _ in range(warmup):
        run()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(rounds):
            run()
    return sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)


def table(events: Sequence[FunctionEventAvg], rounds: int, rows: int) -> str:
    """A Markdown table per run: calls, time without what an operator calls, and its share.

    Args:
        events: most expensive first.
        rounds: runs that they are summed over.
        rows: operators to name; the others share the last row.
    """
    total = sum(event.self_cpu_time_total for event in events)
    named = [(event.key, event.count, event.self_cpu_time_total) for event in events[:rows]]
    rest = events[rows:]
    named.append(
        (
            f"{len(rest)} others",
            sum(event.count for event in rest),
            sum(event.self_cpu_time_total for event in rest),
        )
    )
    lines = [
        (name, f"{calls / rounds:,.0f}", f"{micros / rounds / 1000:,.1f}", f"{micros / total:.1%}")
        for name, calls, micros in (*named, ("all", sum(e.count for e in events), total))
    ]
    headers = ("operator", "calls", "self, ms", "share")
    align = ("left", "right", "right", "right")
    return tabulate(lines, headers, tablefmt="github", colalign=align, disable_numparse=True)


def build_run(cfg: DictConfig, arguments: argparse.Namespace) -> Callable[[], Any]:
    """What is profiled."""
    if "model" not in cfg:
        raise ConfigError("the config has no model, nothing to profile")
    student = cfg.model.get("student", cfg.model)
    batch = drawn_batch(
        arguments.batch, arguments.height, arguments.width, FULL.objects, student.num_classes
    )
    if arguments.step == "train":
        return training_step(instantiate(cfg.model), batch)
    return inference(instantiate(student), batch)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--step", choices=("train", "inference"), default="train")
    parser.add_argument("--height", type=count, default=FULL.height, help="default: 402")
    parser.add_argument("--width", type=count, default=FULL.width, help="default: 1333")
    parser.add_argument("--batch", type=count, default=1, help="images; default: 1")
    parser.add_argument("--rounds", type=count, default=3, help="runs profiled; default: 3")
    parser.add_argument("--warmup", type=count, default=1, help="runs before; default: 1")
    parser.add_argument("--rows", type=count, default=20, help="operators named; default: 20")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="key=value", help="overrides")
    arguments = parser.parse_args(argv)
    try:
        run = build_run(load_config(arguments.config_file, arguments.opts), arguments)
    except ValueError as error:
        sys.exit(f"profile: {error}")
    found = environment()
    events = operators(run, arguments.warmup, arguments.rounds)
    print(table(events, arguments.rounds, arguments.rows), "", described(found), sep="\n")


if __name__ == "__main__":
    main()
