"""The operators that a training step or an inference spends its time in.

    python benchmarks/profile_step.py --config-file projects/clockdistill/configs/dino_r18_kitti.py
    python benchmarks/profile_step.py --config-file ... --step inference --height 402 --width 1333

By torch's profiler, on a drawn batch and random weights: neither data nor checkpoints are needed.
Of a distillation config the whole step is profiled, and in inference the student. Any key of the
config can be overridden at the end of the line.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

# as a script it has only benchmarks/ on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # noqa: F401  before detectron2: silences a warning of its import

# isort: split
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch.profiler import ProfilerActivity, profile

from benchmarks.models import build_trainer, drawn_batch, inference
from benchmarks.report import describe, environment
from benchmarks.scale import FULL
from projects.clockdistill.engine.arguments import positive_int
from projects.clockdistill.engine.config_file import ConfigError, load_config


def build_run(cfg: DictConfig, arguments: argparse.Namespace) -> Callable[[], Any]:
    """Returns what is profiled."""
    if "model" not in cfg:
        raise ConfigError("the config has no model. Fix: name a config of a model to train")
    student = cfg.model.get("student", cfg.model)
    scale = replace(FULL, height=arguments.height, width=arguments.width)
    batch = drawn_batch(scale, arguments.batch, student.num_classes)
    if arguments.step == "train":
        return build_trainer(instantiate(cfg.model), batch).run_step
    return inference(instantiate(student), batch)


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--step", choices=("train", "inference"), default="train")
    parser.add_argument("--height", type=positive_int, default=FULL.height, help="default: 402")
    parser.add_argument("--width", type=positive_int, default=FULL.width, help="default: 1333")
    parser.add_argument("--batch", type=positive_int, default=1, help="images; default: 1")
    parser.add_argument("--rounds", type=positive_int, default=3, help="runs; default: 3")
    parser.add_argument("--rows", type=positive_int, default=20, help="operators; default: 20")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="key=value", help="overrides")
    arguments = parser.parse_args(argv)
    try:
        run = build_run(load_config(arguments.config_file, arguments.opts), arguments)
    except ValueError as error:
        sys.exit(f"profile_step: {error}")
    found = environment()
    run()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(arguments.rounds):
            run()
    events = profiler.key_averages()
    print(events.table(sort_by="self_cpu_time_total", row_limit=arguments.rows))
    print(f"Times and calls are sums over {arguments.rounds} runs. {describe(found)}")


if __name__ == "__main__":
    main()
