"""The size of each loss, and of its gradient at the student, before a long distillation run.

    python tools/calibrate.py --config-file projects/clockdistill/configs/dino_r18_kitti.py
    python tools/calibrate.py --config-file ... --batches 50 --json scales.json --write weights.txt
    python tools/calibrate.py --config-file ... train.init_checkpoint=PATH
    python tools/calibrate.py --config-file ... --plan

Measures the first batches that tools/train_net.py would train on, with the same student, teacher,
data and seed, but takes no step: the student is as it starts, or as in train.init_checkpoint. Where
the gradient of a distillation loss is below 1% or above 2 times the detection loss's, a warning
names the weight that would bring it into range. Nothing is changed: --write puts the advised
weights into a file of overrides, for `tools/train_net.py ... $(cat weights.txt)`.

--plan evaluates the teacher on the test data, and the student if train.init_checkpoint holds a
whole detector, then times as many steps and says what the whole run will take. One process does the
whole batch: for a run on n GPUs, set dataloader.train.total_batch_size to one GPU's part.

Any key of the config can be overridden at the end of the line.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # before detectron2: silences a warning of its import

# isort: split
from detectron2.utils.env import seed_all_rng
from omegaconf import DictConfig

import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill.analysis.loss_report import advise, scales_as_json, scales_table
from projects.clockdistill.analysis.loss_scales import measure, summarize
from projects.clockdistill.analysis.run_plan import measure_plan
from projects.clockdistill.engine.arguments import (
    one_line_errors,
    positive_int,
    tool_parser,
)
from projects.clockdistill.engine.build_trainer import build_trainer
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.checks import check_config
from projects.clockdistill.engine.compile import check_compiler
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.data_check import check_data
from projects.clockdistill.engine.data_config import dataset_names
from projects.clockdistill.engine.train_loader import build_train_loader
from projects.clockdistill.engine.trainer import Trainer

NOTE = """\
{batches} batches of {images} images of {names}; student: {student}.
Losses as they enter the total, weighted, in train mode and float32. No step was taken; weights and
running statistics are as they were.
gradient at memory, at neck: norm of the loss's gradient at the student's encoder output, and at the
encoder's input (all levels of the neck's features together). "-": the loss does not depend on
it, as losses on the neck's features do not depend on the encoder. All losses depend on the neck."""

BLOCKED = """\
A gradient of 0 means that a later layer is 0, as the last one of a new student's box heads is.
Measure a student that has trained for some hundred steps: train.init_checkpoint=PATH"""


def build(cfg: DictConfig) -> Trainer:
    """Returns model and trainer as tools/train_net.py has them before the first step."""
    seed_all_rng(None if cfg.train.seed < 0 else cfg.train.seed)
    trainer = build_trainer(cfg)
    DetectorCheckpointer(trainer.model).load_initial(cfg.train.init_checkpoint)
    return trainer


def calibrate(arguments: argparse.Namespace) -> None:
    """Measures, prints and writes."""
    cfg = load_config(arguments.config_file, arguments.opts)
    check_config(cfg)
    cfg.train.output_dir = ""  # a faulty step is not kept for --replay
    if arguments.plan and cfg.train.compile:
        check_compiler(cfg.train.device)
    if "teacher" not in cfg.model:
        raise ConfigError(
            f"--config-file {arguments.config_file} trains a plain detector: it has no "
            "model.teacher, so there are no distillation losses. Fix: name a distillation config, "
            "such as projects/clockdistill/configs/dino_r18_kitti.py"
        )
    check_data(cfg, eval_only=False).log()
    trainer = build(cfg)
    model = trainer.model
    loader = build_train_loader(cfg.dataloader, cfg.train.seed, start_iter=0)
    print(f"measuring {arguments.batches} batches on {cfg.train.device}", flush=True)
    scales = summarize(measure(model, itertools.islice(loader, arguments.batches)))
    advice = advise(model, scales)
    note = NOTE.format(
        batches=arguments.batches,
        images=cfg.dataloader.train.total_batch_size,
        names=", ".join(dataset_names(cfg, "train")),
        student=cfg.train.init_checkpoint or "from scratch",
    )
    blocked = any(scale.at_memory is not None and scale.at_memory.median == 0 for scale in scales)
    print("", scales_table(scales), "", note, *([BLOCKED] if blocked else []), sep="\n")
    for found in advice.values():
        print(f"\nwarning: {found.text}")
    plan = measure_plan(cfg, trainer, arguments.batches) if arguments.plan else None
    if plan is not None:
        print("", plan.table(), sep="\n")
    if arguments.write is not None:
        advised = {key: value for found in advice.values() for key, value in found.weights.items()}
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text("".join(f"{key}={value:g}\n" for key, value in advised.items()))
        print(f"\n{arguments.write}: {len(advised)} advised weights")
    if arguments.json is not None:
        figures = {
            "config_file": arguments.config_file,
            "overrides": arguments.opts,
            "batches": arguments.batches,
            "losses": scales_as_json(model, scales, advice),
            "plan": None if plan is None else plan.as_json(),
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = tool_parser(__doc__)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--batches", type=positive_int, default=20, metavar="N", help="default: 20")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--write", type=Path, metavar="FILE", help="for the advised weights")
    parser.add_argument("--plan", action="store_true", help="both detectors' AP, time and memory")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="key=value", help="overrides")
    arguments = parser.parse_args(argv)
    with one_line_errors(arguments.debug):
        calibrate(arguments)


if __name__ == "__main__":
    main()
