"""What a distillation run starts from and what it will cost: AP of both detectors, time, memory."""

import math
import resource
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.engine import HookBase, hooks
from omegaconf import DictConfig
from tabulate import tabulate
from torch import nn

from projects.clockdistill.analysis.spread import Spread
from projects.clockdistill.engine import interruption
from projects.clockdistill.engine.build_trainer import store_teacher_weights
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.compile import compile_model
from projects.clockdistill.engine.evaluate import Evaluation
from projects.clockdistill.engine.trainer import Trainer
from projects.clockdistill.engine.weights import CheckpointError
from projects.clockdistill.report.costs import duration

WARMUP = 3  # steps whose time does not count


@dataclass(frozen=True)
class RunPlan:
    """What is known about a run before it starts.

    Attributes:
        metric: `train.best_metric`.
        teacher: its value for the teacher on the test data, in percent; None if not measured.
        student: the same for the student as it starts; None unless `train.init_checkpoint` holds
            a whole detector.
        evaluation_seconds: of the teacher's evaluation.
        step_seconds: of one step, with loading, teacher, optimizer.
        memory_bytes: the most that the steps held of the GPU; on a CPU the most that the process
            has held so far.
        device: of the steps.
        images: in a step.
        steps: of the whole run.
        evaluations: in the whole run.
    """

    metric: str
    teacher: float | None
    student: float | None
    evaluation_seconds: float
    step_seconds: Spread
    memory_bytes: int
    device: str
    images: int
    steps: int
    evaluations: int

    @property
    def run_seconds(self) -> float:
        """Of all steps and evaluations; the student counts as slow as the teacher in these."""
        return self.steps * self.step_seconds.median + self.evaluations * self.evaluation_seconds

    def as_json(self) -> dict[str, Any]:
        """Returns plain numbers in base units."""
        return {**asdict(self), "run_seconds": self.run_seconds}

    def table(self) -> str:
        """Returns a Markdown table."""
        step = self.step_seconds
        memory = "GPU memory" if self.device == "cuda" else "process so far"
        rows = [
            [f"teacher's {self.metric}", _percent(self.teacher)],
            [
                f"student's {self.metric} before the run",
                _percent(self.student, "train.init_checkpoint holds no whole detector"),
            ],
            [
                f"one step of {self.images} images, median (quartiles)",
                f"{step.median:.3g} s ({step.lower_quartile:.3g} to {step.upper_quartile:.3g})",
            ],
            [f"memory, peak of the {memory}", f"{self.memory_bytes / 2**30:.2f} GiB"],
            [
                f"whole run: {self.steps:,} steps, {self.evaluations} evaluations",
                duration(self.run_seconds),
            ],
        ]
        return tabulate(rows, ["plan", ""], tablefmt="github", disable_numparse=True)


def measure_plan(cfg: DictConfig, trainer: Trainer, steps: int) -> RunPlan:
    """Evaluates both detectors, then trains some steps and forgets them.

    Args:
        cfg: the whole config.
        trainer: of the config, with all weights loaded. Its model is changed by the steps.
        steps: to time, besides `WARMUP` others.
    """
    options, device = cfg.train, torch.device(cfg.train.device)
    teacher, seconds = _evaluate(cfg, _Teacher(trainer.model))
    student = None
    if _is_whole(cfg, trainer.model.student):
        student, _ = _evaluate(cfg, trainer.model.student)
    store_teacher_weights(cfg, trainer.model)
    if options.compile:
        compile_model(trainer.model)
    clock = _StepClock(device, WARMUP + steps)
    trainer.register_hooks([clock, hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier))])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        trainer.train(0, max(options.max_iter, WARMUP + steps))
    except interruption.Interrupted:
        raise KeyboardInterrupt from None
    period = options.eval_period or options.max_iter
    return RunPlan(
        metric=options.best_metric,
        teacher=teacher,
        student=student,
        evaluation_seconds=seconds,
        step_seconds=Spread.of(clock.seconds[WARMUP:]),
        memory_bytes=_peak_bytes(device),
        device=device.type,
        images=cfg.dataloader.train.total_batch_size,
        steps=options.max_iter,
        evaluations=math.ceil(options.max_iter / period),
    )


class _Teacher(nn.Module):
    """The teacher as a detector of the student's classes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"instances": found} for found in self.model.teacher_detections(batched_inputs)]


class _StepClock(HookBase):
    """Times every step, and ends the training early."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.seconds: list[float] = []
        self._device = device
        self._steps = steps

    def before_step(self) -> None:
        self._start = _now(self._device)

    def after_step(self) -> None:
        self.seconds.append(_now(self._device) - self._start)
        interruption.check()
        if len(self.seconds) == self._steps:
            self.trainer.max_iter = self._steps


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)  # the device may still be computing
    return time.perf_counter()


def _evaluate(cfg: DictConfig, detector: nn.Module) -> tuple[float | None, float]:
    """Returns the best metric's value on the test data, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        results = Evaluation(cfg.dataloader, folder)(detector)
        seconds = time.perf_counter() - start
    task, _, metric = cfg.train.best_metric.partition("/")
    return results.get(task, {}).get(metric), seconds


def _is_whole(cfg: DictConfig, student: nn.Module) -> bool:
    """Returns whether the student's initial weights are those of a whole detector."""
    if not cfg.train.init_checkpoint:
        return False
    try:
        DetectorCheckpointer(student).load_exact(cfg.train.init_checkpoint, "train.init_checkpoint")
    except CheckpointError:
        return False
    return True


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kilobytes


def _percent(value: float | None, missing: str = "not measured") -> str:
    return f"- ({missing})" if value is None else f"{value:.1f}"
