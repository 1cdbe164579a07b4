"""Train, resume or evaluate a detector, distilled or not.

    python tools/train_net.py --config-file projects/clockdistill/configs/dino_r18_kitti.py
    python tools/train_net.py --config-file ... --resume
    python tools/train_net.py --config-file ... --overwrite
    python tools/train_net.py --config-file ... --eval-only train.init_checkpoint=PATH
    python tools/train_net.py --config-file ... --replay output/.../nonfinite/FILE.pth
    torchrun --nproc-per-node 2 tools/train_net.py --config-file ... train.device=cpu

Any key of the config can be overridden at the end of the line: optimizer.lr=2e-4. This program
reads the keys model, optimizer, lr_multiplier, dataloader (train, test, evaluator) and train, whose
meaning configs/common/train.py gives.
"""

import argparse
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# run as a script, only tools/ is on the path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import projects.clockdistill  # before detectron2: silences a warning of its import

# isort: split
import torch
from detectron2.config import instantiate
from detectron2.engine import default_argument_parser, hooks, launch
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.multiprocessing import ProcessExitedException

import projects.clockdistill.data  # noqa: F401  registers the datasets
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine import weights
from projects.clockdistill.engine.arguments import add_debug, one_line_errors
from projects.clockdistill.engine.build_trainer import build_trainer, store_teacher_weights
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer, plain_detector
from projects.clockdistill.engine.checks import build, check_config
from projects.clockdistill.engine.compile import check_compiler, compile_model
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.conventions import class_names
from projects.clockdistill.engine.data_check import (
    check_data,
    without_bad_images,
)
from projects.clockdistill.engine.data_config import check_batch_size, dataset_names
from projects.clockdistill.engine.ema import EmaUpdate, ModelEma
from projects.clockdistill.engine.evaluate import Evaluate, Evaluation
from projects.clockdistill.engine.failures import explained
from projects.clockdistill.engine.hooks import PeriodicCheckpoint, writers
from projects.clockdistill.engine.interruption import Interrupted
from projects.clockdistill.engine.loggers import check_loggers, remote_loggers
from projects.clockdistill.engine.replay import replay
from projects.clockdistill.engine.resumed_config import changes_on_resume
from projects.clockdistill.engine.run_folder import claimed
from projects.clockdistill.engine.setup import (
    setup_run,
    torchrun_group,
    under_torchrun,
    write_config,
)
from projects.clockdistill.engine.teacher import check_teacher
from projects.clockdistill.engine.weights import CheckpointError
from projects.clockdistill.errors import UserError
from projects.clockdistill.report.after_run import try_write_report

logger = logging.getLogger("projects.clockdistill.train_net")


def model_spec(cfg: DictConfig) -> str | None:
    """Returns what checkpoints say about their detector; None if the config does not say it."""
    try:
        return ModelSpec.from_config(cfg).to_json()
    except ConfigError as error:
        logger.warning("checkpoints will not tell how to predict with them: %s", error)
        return None


def evaluate(cfg: DictConfig) -> dict:
    """Evaluates train.init_checkpoint; of a distillation config only the student is built."""
    if not cfg.train.init_checkpoint:
        raise CheckpointError(
            "--eval-only needs weights, but train.init_checkpoint is empty.\n"
            f"Fix: add train.init_checkpoint={Path(cfg.train.output_dir) / 'model_final.pth'}"
        )
    key = "model.student" if "student" in cfg.model else "model"
    model = build(OmegaConf.select(cfg, key), key).to(cfg.train.device)
    checkpointer = DetectorCheckpointer(model)
    checkpointer.load_exact(
        cfg.train.init_checkpoint, "train.init_checkpoint", class_names=class_names(cfg)
    )
    return Evaluation(cfg.dataloader, cfg.train.output_dir)(model)


def train(cfg: DictConfig, *, resume: bool, started: Callable[[], None] | None = None) -> None:
    """Trains up to train.max_iter, with evaluations on the way and at the end.

    Args:
        cfg: the whole config.
        resume: whether a run in the folder goes on.
        started: called once all weights are loaded.
    """
    options = cfg.train
    trainer = build_trainer(cfg)
    model = getattr(trainer.model, "module", trainer.model)  # out of DistributedDataParallel
    detector = plain_detector(model)
    ema = ModelEma(detector, options.model_ema.decay) if options.model_ema.enabled else None
    evaluates_ema = ema is not None and options.model_ema.use_ema_weights_for_eval_only
    checkpointer = DetectorCheckpointer(
        model,
        options.output_dir,
        ema=ema,
        evaluates_ema=evaluates_ema,
        model_spec=model_spec(cfg),
        trainer=trainer,
    )
    resumed = resume and checkpointer.resume()
    if not resumed:
        checkpointer.load_initial(options.init_checkpoint, class_names(cfg))
        if ema is not None:
            ema.restart(detector)
    if started is not None:
        started()
    start_iter = trainer.iter + 1 if resumed else 0
    evaluation = Evaluation(cfg.dataloader, options.output_dir)
    if hasattr(model, "teacher") and not resumed and comm.is_main_process():
        check_teacher(
            model.teacher_detections,
            evaluation.loader,
            dataset_names(cfg, "test")[0],
            options.teacher_check_images,
        )
    store_teacher_weights(cfg, model)
    if options.compile:  # after the teacher's check, whose precision would need graphs of its own
        compile_model(model)
    measure = functools.partial(evaluation, ema.module if evaluates_ema else model)
    if start_iter >= options.max_iter:
        logger.info("train.max_iter=%d is already reached: evaluating", options.max_iter)
    log_sizes(model)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            # a schedule is not defined beyond its end
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier))
            if start_iter < options.max_iter
            else None,
            EmaUpdate(ema, detector) if ema is not None else None,
            PeriodicCheckpoint(checkpointer, **options.checkpointer),
            Evaluate(
                measure,
                checkpointer,
                options.eval_period,
                options.best_metric,
                options.early_stopping,
            ),
        ]
    )
    with remote_loggers(cfg, resumed=resumed) as remote:
        if comm.is_main_process():
            output = (options.output_dir, options.max_iter, options.log_period)
            trainer.register_hooks(writers(*output, remote))
        trainer.train(start_iter, options.max_iter)


def replay_step(cfg: DictConfig, path: str) -> None:
    """Runs a step again that a run kept since it was not finite, and prints what it gives."""
    content = weights.read(weights.local_path(path, "--replay"))
    if not {"batch", "model", "rng", "iteration"} <= content.keys():
        raise CheckpointError(f"{path} holds no step. Fix: name a file of a run's nonfinite/")
    trainer = build_trainer(cfg)
    store_teacher_weights(cfg, trainer.model)
    print(replay(trainer, content))


def write_page(cfg: DictConfig) -> None:
    """Writes report.html of a run that has ended."""
    if comm.is_main_process():
        try_write_report(cfg.train.output_dir, cfg)


def log_sizes(model: nn.Module) -> None:
    """Logs the number of parameters and of those that are trained."""
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info("parameters: %s, of which %s are trained", f"{count:,}", f"{trained:,}")


def run(args: argparse.Namespace) -> None:
    """Runs the command in this process."""
    cfg = load_config(args.config_file, args.opts)
    check_config(cfg)
    if args.replay:
        replay_step(cfg, args.replay)
        return
    if not args.eval_only:
        check_loggers(cfg.train.loggers)
    with torchrun_group(cfg.train.device):
        data = check_data(cfg, eval_only=args.eval_only)
        if args.eval_only:
            setup_run(cfg, keep_config=True)
            data.log()
            cfg = without_bad_images(cfg, data)
            evaluate(cfg)
            write_page(cfg)
            return
        check_batch_size(cfg, comm.get_world_size())
        if cfg.train.compile:
            check_compiler(cfg.train.device)
        folder = cfg.train.output_dir
        if args.overwrite:
            check_outside(cfg)
        with (
            claimed(folder, resume=args.resume, overwrite=args.overwrite),
            explained(folder),
            exit_when_interrupted(folder),
        ):
            changes = changes_on_resume(cfg) if args.resume else []
            setup_run(cfg, keep_config=args.resume)
            data.log()
            for change in changes:
                logger.info("changed since the run started: %s", change)
            checked = without_bad_images(cfg, data)
            # a refused --resume leaves the run's config.yaml as it was
            started = functools.partial(write_config, cfg) if args.resume else None
            train(checked, resume=args.resume, started=started)
            write_page(checked)


def check_outside(cfg: DictConfig) -> None:
    """Refuses weights that --overwrite would remove, and checks that there are any.

    Raises:
        UserError: names the config key.
    """
    for key in ("train.init_checkpoint", "model.teacher_checkpoint"):
        address = OmegaConf.select(cfg, key)
        if not address or "://" in address:
            continue
        path = Path(weights.local_path(address, key)).resolve()
        if path.parent == Path(cfg.train.output_dir).resolve():
            raise ConfigError(
                f"{key}={address} is in train.output_dir={cfg.train.output_dir}, which --overwrite "
                "empties.\nFix: set train.output_dir to another folder, or move the file"
            )


@contextmanager
def exit_when_interrupted(folder: str) -> Iterator[None]:
    """Ends the program as shells expect it when a signal has ended the training in the block."""
    try:
        yield
    except Interrupted as interrupted:
        logger.info(
            "%s; the run is saved in %s. To go on, run the same command with --resume",
            interrupted,
            folder,
        )
        sys.exit(interrupted.exit_code)


def run_quietly(args: argparse.Namespace) -> None:
    """Runs the command in a process that `launch` started."""
    with one_line_errors(args.debug):
        run(args)


def main(argv: list[str] | None = None) -> None:
    """Reads the command line and starts the processes."""
    parser = default_argument_parser()
    parser.add_argument("--overwrite", action="store_true", help="replace the run in the folder")
    parser.add_argument("--replay", metavar="FILE", default="", help="run a kept step again")
    add_debug(parser)
    args = parser.parse_args(argv)
    with one_line_errors(args.debug):
        if under_torchrun():
            run(args)
            return
        if min(args.num_gpus, args.num_machines) < 1:
            raise ConfigError("--num-gpus and --num-machines must be at least 1")
        if not 0 <= args.machine_rank < args.num_machines:
            raise ConfigError(
                f"--machine-rank {args.machine_rank}: expected 0 to {args.num_machines - 1}, below "
                "--num-machines"
            )
        if args.num_gpus > 1 and not torch.cuda.is_available():
            command = f"torchrun --nproc-per-node {args.num_gpus} tools/train_net.py"
            raise ConfigError(
                f"--num-gpus {args.num_gpus}, but there is no CUDA GPU.\n"
                f"Fix: on CPUs, use {command} ... train.device=cpu"
            )
        if args.num_gpus > max(1, torch.cuda.device_count()):
            raise ConfigError(
                f"--num-gpus {args.num_gpus}, but this machine has {torch.cuda.device_count()}"
            )
        options = (args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)
        try:
            launch(run_quietly, *options, args=(args,))
        except ProcessExitedException as error:
            if error.exit_code in (130, 143):  # a process that a signal ended has saved
                sys.exit(error.exit_code)
            raise UserError(f"{error}; its own message is above") from error


if __name__ == "__main__":
    main()
