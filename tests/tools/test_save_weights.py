"""Safetensors of a checkpoint hold its detector and nothing else."""

from pathlib import Path

import save_weights
import torch

from projects.clockdistill.engine.weights import read


def test_the_detector_alone_is_written(tmp_path: Path) -> None:
    shared = torch.rand(2, 3)
    model = {"head.weight": shared, "decoder.head.weight": shared, "steps": torch.tensor(3)}
    torch.save({"model": model, "distill": {"x": torch.ones(9)}}, tmp_path / "checkpoint.pth")
    output = tmp_path / "folder/weights.safetensors"
    save_weights.main([str(tmp_path / "checkpoint.pth"), str(output)])
    torch.testing.assert_close(read(str(output))["model"], model)
