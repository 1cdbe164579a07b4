"""Training step on CPU or GPU, in one process or several, with or without mixed precision."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.optim import Optimizer

from projects.clockdistill.engine import interruption
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.replay import StepRecorder
from projects.clockdistill.engine.rng import get_rng_state, set_rng_state
from projects.clockdistill.engine.solver import load_optimizer
from projects.clockdistill.modeling.detectors.normalisers import chunks_of
from projects.clockdistill.modeling.detectors.transfers import to_host
from projects.clockdistill.modeling.pseudo_targets import by_labels

# Halved so often, GradScaler's first scale of 2^16 is 2^-14, float16's smallest normal number: a
# gradient that is still not finite is not so because of its scale.
_MAX_SKIPPED_IN_A_ROW = 30
# Metrics are logged as medians of so many steps: detectron2's default.
_LOGGED_WINDOW = 20

logger = logging.getLogger(__name__)


class Trainer(TrainerBase):
    """Forward, backward, clip, step; every loss is checked before the weights change.

    Args:
        model: returns {name: scalar loss} for a batch; may be wrapped for several processes.
        build_loader: returns the endless batches from the given step on.
        optimizer: over the model's trained parameters.
        amp_dtype: "bfloat16" or "float16" for mixed precision, None for float32.
        max_norm: largest norm of all gradients together; 0, as in the original repositories of the
            DETR family, and infinity disable clipping.
        norm_type: order of that norm.
        accumulate_steps: chunks into which a batch is split; one at a time is in memory, and the
            weights change once per batch.
        output_dir: folder of the run, for a step that is not finite; "" writes nothing.

    Attributes:
        interrupted: number of the signal that ends the run after this step, or 0; all processes
            agree on it.
    """

    def __init__(
        self,
        model: nn.Module,
        build_loader: Callable[[int], Iterable[list[dict[str, Any]]]],
        optimizer: Optimizer,
        *,
        amp_dtype: str | None = None,
        max_norm: float = float("inf"),
        norm_type: float = 2.0,
        accumulate_steps: int = 1,
        output_dir: str = "",
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self._build_loader = build_loader
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._device = self._parameters[0].device
        self._amp_dtype = getattr(torch, amp_dtype) if amp_dtype else None
        # bfloat16 has float32's range: only float16 needs its losses scaled
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=amp_dtype == "float16")
        self._max_norm = max_norm or float("inf")
        self._norm_type = norm_type
        self._accumulate_steps = accumulate_steps
        self._skipped = 0  # steps of this run that changed no weights
        self._skipped_in_a_row = 0
        self._recorder = StepRecorder(model, output_dir)
        self._resumed: dict[str, Any] = {}
        self.interrupted = 0

    def train(self, start_iter: int, max_iter: int) -> None:
        """Runs the steps from `start_iter` up to `max_iter`, which a hook may lower on the way.

        By hand: detectron2's own loop prints a traceback for every exception.

        Raises:
            Interrupted: after a step, or in an evaluation, if there was SIGTERM or SIGINT.
        """
        self.model.train()
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        logger.info("Starting training from iteration %d", start_iter)
        with interruption.deferred_signals(), EventStorage(start_iter) as self.storage:
            self._batches = iter(self._build_loader(start_iter))
            self._restore(start_iter)
            try:
                self.before_train()
                while self.iter < self.max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    if self.interrupted:
                        raise interruption.Interrupted(self.interrupted)
                    self.iter += 1
                self.iter = self.max_iter  # tells hooks that no exception ended the loop
            finally:
                self.after_train()

    def _restore(self, start_iter: int) -> None:
        """Sets generators and metrics to what a resumed checkpoint holds."""
        for name, entries in self._resumed.get("metrics", {}).items():
            for value, iteration in entries["values"]:
                self.storage.iter = iteration
                self.storage.put_scalar(name, value, smoothing_hint=entries["smooth"])
        self.storage.iter = start_iter
        states = self._resumed.get("rng", [])
        if len(states) == comm.get_world_size():
            set_rng_state(states[comm.get_rank()])
        elif start_iter > 0:  # otherwise the draws would repeat the first steps' own
            torch.manual_seed(torch.initial_seed() + start_iter)

    def run_step(self) -> None:
        """Runs one step.

        Raises:
            FloatingPointError: before the weights change, if a loss or the gradient is not finite;
                in float16 a gradient may be so for some steps, while its scale is too high.
        """
        assert self.model.training, "the model was left in eval mode"
        start = time.perf_counter()
        batch = next(self._batches)
        data_time = time.perf_counter() - start

        self._recorder.before_step(batch, self.iter)
        self.optimizer.zero_grad(set_to_none=True)
        try:
            losses = self.backward(batch)
        except FloatingPointError as error:  # the matcher refuses predictions that are not finite
            raise FloatingPointError(f"{error}\n{self._keep_step(batch)}") from error
        self._scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, self._max_norm, self._norm_type)

        signal_number = grad_norm.new_full((), interruption.received())
        values = {**losses, "grad_norm": grad_norm, **self._scale(), "signal": signal_number}
        metrics = self._checked_metrics(values, batch)
        # the processes agree on it, wherever and whenever the signal came
        any_signal = metrics.pop("signal") > 0
        self.interrupted = (interruption.received() or signal.SIGTERM) if any_signal else 0
        if self._scaler.is_enabled():
            metrics["amp_skipped_steps"] = self._count_skipped(metrics)
        self.storage.put_scalars(**metrics, data_time=data_time)

        self._scaler.step(self.optimizer)
        self._scaler.update()

    def backward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Adds up the gradients of a batch, chunk by chunk.

        Returns:
            Each loss and "total_loss", averaged over the chunks, without gradient.
        """
        count = self._accumulate_steps
        size, rest = divmod(len(batch), count)
        if rest:
            raise ConfigError(
                f"a batch of {len(batch)} images cannot be split into train.accumulate_steps="
                f"{count} equal chunks. Fix: let the loader give a multiple of {count} images"
            )
        labelled, *unlabelled = by_labels(batch)
        objects = sum(len(image.get("instances", ())) for image in labelled)
        autocast = torch.autocast(
            self._device.type, dtype=self._amp_dtype, enabled=self._amp_dtype is not None
        )
        if unlabelled:  # a kind that a chunk lacks would cost it one more image
            chunks = [batch[first::count] for first in range(count)]
        else:
            chunks = [batch[first : first + size] for first in range(0, len(batch), size)]
        with autocast:
            of_teachers = self._run_teacher(chunks)
        values: list[Tensor] = []
        for chunk, of_teacher in zip(chunks, of_teachers, strict=True):
            local = chunk is not chunks[-1] and hasattr(self.model, "no_sync")
            with (
                self.model.no_sync() if local else nullcontext(),  # the last chunk's are exchanged
                chunks_of(objects, count) if count > 1 else nullcontext(),
            ):
                with autocast:
                    losses = self.model(chunk, *of_teacher)
                    total = sum(losses.values())
                self._scaler.scale(total / count).backward()
            # sorted: the order of a detector's losses may depend on the objects of a chunk
            losses = dict(sorted({**losses, "total_loss": total}.items()))
            values.append(torch.stack([loss.detach().float() for loss in losses.values()]))
        return dict(zip(losses, torch.stack(values).mean(dim=0), strict=True))

    def _run_teacher(self, chunks: list[list[dict[str, Any]]]) -> list[tuple]:
        """Returns the model's further arguments for each chunk.

        A distillation model divides its logit loss by sums over the batch, which only its teacher
        gives: with several chunks the teacher must have seen them all.
        """
        model = getattr(self.model, "module", self.model)
        if len(chunks) == 1 or not hasattr(model, "run_teacher"):
            return [()] * len(chunks)
        return [(one,) for one in model.run_teacher(chunks)]

    def _scale(self) -> dict[str, Tensor]:
        """Returns the scale of float16's losses, still on the device, as "amp_scale"."""
        if not self._scaler.is_enabled():
            return {}
        return {"amp_scale": self._scaler.scale(torch.ones((), device=self._device))}

    def _count_skipped(self, metrics: dict[str, float]) -> int:
        """Returns how many steps of this run the scaler has skipped, with this one.

        Raises:
            FloatingPointError: if it has skipped so many in a row that no scale can be the cause.
        """
        skips = not math.isfinite(metrics["grad_norm"])
        self._skipped += skips
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if skips else 0
        if self._skipped_in_a_row >= _MAX_SKIPPED_IN_A_ROW:
            raise FloatingPointError(
                f"the weights no longer change at iteration {self.iter}: the float16 gradients of "
                f"{self._skipped_in_a_row} steps in a row were not finite, though GradScaler "
                f"lowered its scale to {metrics['amp_scale']:.2g}; expected are a few such steps "
                "at the start.\nFix: use train.amp.dtype=bfloat16 or train.amp.enabled=False, or "
                "lower optimizer.lr"
            )
        return self._skipped

    def _checked_metrics(
        self, tensors: dict[str, Tensor], batch: list[dict[str, Any]]
    ) -> dict[str, float]:
        """Returns each value, averaged over the processes; one transfer from the device."""
        tensors = dict(sorted(tensors.items()))  # the same order in every process
        local = torch.stack([value.float() for value in tensors.values()])
        mean = local.clone()
        if comm.get_world_size() > 1:
            # detectron2's reduce_dict gives only the main process the result; here every process
            # needs it, so that all of them stop together
            dist.all_reduce(mean)
            mean /= comm.get_world_size()
        local, mean = to_host(torch.stack([local, mean]))
        finite = dict(zip(tensors, mean.isfinite().tolist(), strict=True))
        bad = [name for name in finite if not finite[name]]
        if self._scaler.is_enabled() and bad == ["grad_norm"]:
            bad = []  # the scaler skips such a step and lowers its scale
        if bad:
            own = dict(zip(tensors, local.tolist(), strict=True))
            own.pop("signal")
            raise FloatingPointError(
                f"not finite at iteration {self.iter}: {', '.join(bad)}. The weights were not "
                f"changed. On rank {comm.get_rank()}: {own}.\n{self._keep_step(batch)}\nFix: "
                "check these images and boxes, lower optimizer.lr, or set train.amp.enabled=False"
            )
        return dict(zip(tensors, mean.tolist(), strict=True))

    def _keep_step(self, batch: list[dict[str, Any]]) -> str:
        """Keeps the step for `--replay`; returns its images and the command, for a message."""
        files = ", ".join(str(x.get("file_name", x.get("image_id"))) for x in batch)
        return f"Images of the batch of iteration {self.iter}: {files}.{self._recorder.save()}"

    def state_dict(self) -> dict[str, Any]:
        """Returns what resuming needs besides the weights; all processes call it together."""
        return {
            **super().state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": comm.gather(get_rng_state()),
            "metrics": {
                name: {
                    "values": [list(entry) for entry in history.values()[-_LOGGED_WINDOW:]],
                    "smooth": self.storage.smoothing_hints()[name],
                }
                for name, history in self.storage.histories().items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        # without the hooks' states: the hooks are registered later, and the schedule, whose state
        # it is, follows from the iteration
        super().load_state_dict({"iteration": state["iteration"]})
        load_optimizer(self.optimizer, state["optimizer"])
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        self._resumed = {"rng": _as_list(state["rng"]), "metrics": state.get("metrics", {})}


def _as_list(rng: Any) -> list[dict[str, Any]]:
    """Returns the generators' states of all processes; older files hold the main process's."""
    return [rng] if isinstance(rng, dict) else rng
