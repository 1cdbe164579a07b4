"""Tests one step of the trainer: what it measures, refuses and changes."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.trainer import Trainer


class _Line(nn.Module):
    """loss_a = weight * x and loss_b = 2 * weight for a batch [{"x": x}]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.dtype = torch.float32

    def forward(self, batch: list[dict]) -> dict[str, Tensor]:
        product = self.weight.new_ones(1, 1) @ self.weight.reshape(1, 1)
        self.dtype = product.dtype  # matrix products show whether autocast is on
        return {"loss_a": self.weight * batch[0]["x"], "loss_b": 2 * self.weight}


def _trainer(model: nn.Module, values: list[float], **options) -> Trainer:
    batches = [[{"x": value, "file_name": f"image_{i}.png"}] for i, value in enumerate(values)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Trainer(
        model, lambda start: itertools.islice(batches, start, None), optimizer, **options
    )


def _measured(trainer: Trainer) -> dict[str, float]:
    return {key: value for key, (value, _) in trainer.storage.latest().items()}


def test_steps_follow_the_gradient_and_measure_everything() -> None:
    model = _Line()
    trainer = _trainer(model, [3.0, 3.0])
    trainer.train(0, 2)
    # d(3 w + 2 w)/dw = 5 in each step: w = 1 - 0.1 * 5 = 0.5 after the first, 0 after the second
    assert model.weight.item() == pytest.approx(0.0, abs=1e-6)
    measured = _measured(trainer)
    assert measured.pop("data_time") >= 0
    assert measured == pytest.approx(
        {"loss_a": 1.5, "loss_b": 1.0, "total_loss": 2.5, "grad_norm": 5.0}
    )


def test_clipping_bounds_the_step_and_logs_the_norm_before_it() -> None:
    model = _Line()
    trainer = _trainer(model, [3.0], max_norm=0.5)
    trainer.train(0, 1)
    assert model.weight.item() == pytest.approx(1 - 0.1 * 0.5, abs=1e-6)
    assert _measured(trainer)["grad_norm"] == pytest.approx(5.0)


@pytest.mark.parametrize("off", [0, 0.0, math.inf])
def test_a_largest_norm_of_0_disables_clipping(off: float) -> None:
    model = _Line()
    _trainer(model, [3.0], max_norm=off).train(0, 1)
    assert model.weight.item() == pytest.approx(1 - 0.1 * 5, abs=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_loss_stops_before_the_weights_change_and_names_the_image(value: float) -> None:
    model = _Line()
    trainer = _trainer(model, [3.0, value])
    with pytest.raises(FloatingPointError) as caught:
        trainer.train(0, 2)
    message = str(caught.value)
    assert message.startswith("not finite at iteration 1: grad_norm, loss_a, total_loss")
    assert "image_1.png" in message and "image_0.png" not in message
    assert model.weight.item() == pytest.approx(0.5)  # after the first step alone


def test_bad_gradient_under_a_finite_loss_stops_too() -> None:
    class Root(_Line):
        def forward(self, batch: list[dict]) -> dict[str, Tensor]:
            return {"loss_root": (self.weight - 1.0).sqrt()}  # 0 with an infinite slope

    model = Root()
    with pytest.raises(FloatingPointError, match="not finite at iteration 0: grad_norm\\."):
        _trainer(model, [1.0]).train(0, 1)
    assert model.weight.item() == 1.0


def test_mixed_precision_on_the_cpu_computes_in_bfloat16() -> None:
    model = _Line()
    trainer = _trainer(model, [3.0], amp_dtype="bfloat16")
    trainer.train(0, 1)
    assert model.dtype == torch.bfloat16
    assert model.weight.dtype == torch.float32
    assert model.weight.item() == pytest.approx(0.5)
    plain = _Line()
    _trainer(plain, [3.0]).train(0, 1)
    assert plain.dtype == torch.float32


class _Half(_Line):
    """loss = 8 * weight, whose gradient passes through float16: 8 * scale must not exceed 65504."""

    def forward(self, batch: list[dict]) -> dict[str, Tensor]:
        return {"loss": 8 * self.weight.half().float()}


def test_float16_skips_steps_until_its_scale_fits() -> None:
    model = _Half()
    trainer = _trainer(model, [1.0] * 6, amp_dtype="float16")
    trainer.train(0, 6)
    # scales 2^16 to 2^13 are too high, 2^12 fits: 8 * 4096 = 32768
    assert model.weight.item() == pytest.approx(1 - 2 * 0.1 * 8, abs=1e-3)
    measured = _measured(trainer)
    assert measured["amp_skipped_steps"] == 4 and measured["amp_scale"] == 2**12
    assert measured["grad_norm"] == pytest.approx(8)


def test_float16_run_whose_every_step_is_skipped_stops_with_the_cause() -> None:
    class Infinite(_Line):
        def forward(self, batch: list[dict]) -> dict[str, Tensor]:
            return {"loss": (self.weight - 1.0).sqrt()}  # 0 with an infinite slope

    model = Infinite()
    trainer = _trainer(model, [1.0] * 400, amp_dtype="float16")
    # 30 steps, each but the last has halved the scale: 2^(16 - 29) = 0.00012
    message = r"at iteration 29: .* 30 steps in a row .* 0\.00012; .*\nFix: .*bfloat16"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train(0, 400)
    assert model.weight.item() == 1.0


@pytest.mark.parametrize("amp_dtype", [None, "bfloat16", "float16"])
def test_chunks_of_a_batch_take_one_step_together(amp_dtype: str | None) -> None:
    model = _Line()
    batch = [{"x": value} for value in (3.0, 5.0)]
    trainer = Trainer(
        model,
        lambda start: [batch],
        torch.optim.SGD(model.parameters(), lr=0.1),
        amp_dtype=amp_dtype,
        max_norm=3.0,
        accumulate_steps=2,
    )
    trainer.train(0, 1)
    # mean of (3 + 2) and (5 + 2), clipped from 6 to 3
    assert model.weight.item() == pytest.approx(1 - 0.1 * 3)
    measured = _measured(trainer)
    assert (measured["loss_a"], measured["total_loss"]) == pytest.approx((4.0, 6.0))
    assert measured["grad_norm"] == pytest.approx(6.0)


def test_losses_of_chunks_are_averaged_by_name_whatever_their_order() -> None:
    class Reordered(_Line):
        def forward(self, batch: list[dict]) -> dict[str, Tensor]:
            losses = super().forward(batch)
            return losses if batch[0]["x"] == 3.0 else dict(reversed(losses.items()))

    model = Reordered()
    trainer = Trainer(
        model,
        lambda start: [[{"x": value} for value in (3.0, 5.0)]],
        torch.optim.SGD(model.parameters(), lr=0.1),
        accumulate_steps=2,
    )
    trainer.train(0, 1)
    measured = _measured(trainer)
    assert (measured["loss_a"], measured["loss_b"]) == pytest.approx((4.0, 2.0))


def test_batch_that_does_not_split_is_refused() -> None:
    trainer = _trainer(_Line(), [3.0], accumulate_steps=2)
    with pytest.raises(ConfigError, match="a batch of 1 images .*=2 equal chunks"):
        trainer.train(0, 1)


def test_state_restores_iteration_optimizer_and_random_draws(tmp_path: Path) -> None:
    class Noisy(_Line):
        def forward(self, batch: list[dict]) -> dict[str, Tensor]:
            return {"loss": self.weight * torch.rand(()) * batch[0]["x"]}

    straight = Noisy()
    torch.manual_seed(1)
    _trainer(straight, [1.0] * 4).train(0, 4)

    halves = Noisy()
    torch.manual_seed(1)
    first = _trainer(halves, [1.0] * 4)
    first.train(0, 2)
    first.iter = 1  # as a hook sees it after the second step
    torch.save(first.state_dict(), tmp_path / "trainer.pth")
    torch.manual_seed(2)
    second = _trainer(halves, [1.0] * 4)
    second.load_state_dict(torch.load(tmp_path / "trainer.pth", weights_only=True))
    assert second.iter == 1
    second.train(2, 4)
    assert torch.equal(halves.weight, straight.weight)
