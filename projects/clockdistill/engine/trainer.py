"""The training loop's step: one for CPU and GPU, one process or many, with or without AMP."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils import comm
from torch import Tensor, nn
from torch.optim import Optimizer

from projects.clockdistill.engine.rng import get_rng_state, set_rng_state

_AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer(TrainerBase):
    """Forward, backward, clip, step; every loss measured and checked before the weights change.

    Args:
        model: returns {name: scalar loss} for a batch; may be wrapped for several processes.
        build_loader: returns the endless batches from the given step on.
        optimizer: over the model's parameters that learn.
        amp_dtype: "bfloat16" or "float16" for mixed precision, None for none.
        max_norm: largest norm of all gradients together; infinity clips nothing.
        norm_type: order of that norm.
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
    ) -> None:
        super().__init__()
        self.model = model
        self.optimizer = optimizer
        self._build_loader = build_loader
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._device = self._parameters[0].device
        self._amp_dtype = _AMP_DTYPES[amp_dtype] if amp_dtype else None
        # bfloat16 has float32's range: only float16 needs its losses scaled
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=amp_dtype == "float16")
        self._max_norm = max_norm
        self._norm_type = norm_type
        self._resumed_rng: dict[str, Any] | None = None

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the steps from ``start_iter`` up to ``max_iter``."""
        self.model.train()
        if start_iter > 0:
            # else augmentations, and draws on other ranks, would repeat those of the first steps
            torch.manual_seed(torch.initial_seed() + start_iter)
        self._batches = iter(self._build_loader(start_iter))
        # a checkpoint holds the main process's state; other ranks go on with a fresh one
        if self._resumed_rng is not None and comm.is_main_process():
            set_rng_state(self._resumed_rng)
        super().train(start_iter, max_iter)

    def run_step(self) -> None:
        """Make one step; see the class.

        Raises:
            FloatingPointError: before the weights change, if a loss or the gradient is not finite.
        """
        assert self.model.training, "the model was left in eval mode"
        start = time.perf_counter()
        batch = next(self._batches)
        data_time = time.perf_counter() - start

        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(
            self._device.type, dtype=self._amp_dtype, enabled=self._amp_dtype is not None
        ):
            losses = self.model(batch)
            total = sum(losses.values())
        self._scaler.scale(total).backward()
        self._scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, self._max_norm, self._norm_type)

        names = [*losses, "total_loss", "grad_norm"]
        values = [*losses.values(), total, grad_norm]
        measured = self._measure(names, values, batch)
        self.storage.put_scalars(**measured, data_time=data_time)

        self._scaler.step(self.optimizer)
        self._scaler.update()

    def _measure(
        self, names: list[str], values: list[Tensor], batch: list[dict[str, Any]]
    ) -> dict[str, float]:
        """Return each value, averaged over the processes; one transfer from the device."""
        local = torch.stack([value.detach().float() for value in values])
        shared = local.clone()
        if comm.get_world_size() > 1:
            dist.all_reduce(shared)
            shared /= comm.get_world_size()
        own, mean = torch.stack([local, shared]).cpu()
        # every process sees the mean, so that all of them stop together
        bad = [
            name for name, finite in zip(names, mean.isfinite().tolist(), strict=True) if not finite
        ]
        if self._scaler.is_enabled() and bad == ["grad_norm"]:
            bad = []  # the scaler skips such a step and lowers its scale
        if bad:
            raise FloatingPointError(
                self._describe(bad, dict(zip(names, own.tolist(), strict=True)), batch)
            )
        return dict(zip(names, mean.tolist(), strict=True))

    def _describe(self, bad: list[str], own: dict[str, float], batch: list[dict[str, Any]]) -> str:
        files = ", ".join(str(x.get("file_name", x.get("image_id"))) for x in batch)
        return (
            f"{', '.join(bad)} is not finite at iteration {self.iter}; the weights were not "
            f"changed. On rank {comm.get_rank()}: {own}. Images of the batch: {files}. Mend: look "
            "at these images and boxes, or lower optimizer.lr, or train.amp.enabled=False"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs besides the weights."""
        return {
            **super().state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned."""
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        self._resumed_rng = state["rng"]
