"""Tests that a step whose losses are not finite is kept, and can be run again exactly."""

from pathlib import Path

import pytest
import torch
import train_net
from torch import nn

from projects.clockdistill.engine import replay as replay_module
from projects.clockdistill.engine.trainer import Trainer
from projects.clockdistill.modeling.step_random import StepRandom
from tests.tiny_run import PLAIN, tiny_overrides


class _Noisy(nn.Module):
    """Losses with draws from torch's generator and from a StepRandom; infinite for x = 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))
        self.draw = StepRandom(seed=0)
        self.inverse = _Inverse()

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        return {
            "loss_global": self.weight * torch.rand(()),
            "loss_step": self.weight * self.draw.uniform(()),
            "loss_inverse": self.inverse(self.weight * batch[0]["x"]),
        }


class _Inverse(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1 / x


def _trainer(folder: Path, values: list[float]) -> Trainer:
    model = _Noisy()
    batches = [[{"x": value, "file_name": f"{value}.png"}] for value in values]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, lambda start: batches, optimizer, output_dir=str(folder))


def test_kept_step_gives_the_same_losses_and_names_the_module(tmp_path: Path) -> None:
    losses = {}

    class Noting(Trainer):
        def backward(self, batch: list[dict]) -> dict:
            found = super().backward(batch)
            losses.update(found)
            return found

    trainer = _trainer(tmp_path, [2.0, 2.0, 0.0])
    trainer.__class__ = Noting
    with pytest.raises(FloatingPointError, match="--replay .*iteration_0000002_rank0") as caught:
        trainer.train(0, 3)
    assert len(str(caught.value).splitlines()) == 3
    content = torch.load(tmp_path / "nonfinite/iteration_0000002_rank0.pth", weights_only=True)
    torch.manual_seed(7)  # another process
    report = replay_module.replay(_trainer(tmp_path, []), content)
    assert "0.0.png" in report
    for name, value in losses.items():
        assert f"  {name}: {value.item():.6g}\n" in report
    assert "first NaN: nowhere" in report
    assert "inverse (_Inverse), 1 values" in report
    assert "parameters whose gradient is not finite: 1 of 1\n  weight" in report


def test_folder_that_cannot_be_written_leaves_the_message(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path / "missing", [0.0])
    with pytest.raises(FloatingPointError, match="not finite at iteration 0") as caught:
        trainer.train(0, 1)
    assert "--replay" not in str(caught.value)


def test_tool_replays_a_detectors_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--config-file", PLAIN, *tiny_overrides(tmp_path), "train.max_iter=2"]
    backward = Trainer.backward

    def spoiled(self: Trainer, batch: list[dict]) -> dict:
        # as a weight that an overflow made NaN
        nn.init.constant_(self.model.bbox_embed[0].layers[0].bias, float("nan"))
        return backward(self, batch)

    monkeypatch.setattr(Trainer, "backward", spoiled)
    with pytest.raises(SystemExit, match=r"box \[nan(.|\n)*000.png.*iteration_0000000_rank0.pth"):
        train_net.main(arguments)
    monkeypatch.undo()
    (kept,) = (tmp_path / "output" / "nonfinite").iterdir()
    capsys.readouterr()
    train_net.main([*arguments[:2], "--replay", str(kept), *arguments[2:]])
    report = capsys.readouterr().out
    assert "  none: the predictions of decoder layer 0" in report  # the matcher refuses them
    assert "first NaN: " in report and "bbox_embed.0" in report
    with pytest.raises(SystemExit, match=r"holds no step\. Fix: name a file of a run's nonfinite"):
        path = tmp_path / "w.pth"
        torch.save({"model": {"x": torch.ones(1)}}, path)
        train_net.main([*arguments[:2], "--replay", str(path), *arguments[2:]])
