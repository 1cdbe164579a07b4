"""Tests that the safetensors of a checkpoint hold its detector and nothing else."""

from pathlib import Path

import pytest
import save_weights
import torch

from projects.clockdistill.engine.weights import read


def test_only_the_detector_is_written(tmp_path: Path) -> None:
    shared = torch.rand(2, 3)
    model = {"head.weight": shared, "decoder.head.weight": shared, "steps": torch.tensor(3)}
    torch.save({"model": model, "distill": {"x": torch.ones(9)}}, tmp_path / "checkpoint.pth")
    output = tmp_path / "folder/weights.safetensors"
    save_weights.main([str(tmp_path / "checkpoint.pth"), str(output)])
    torch.testing.assert_close(read(str(output))["model"], model)


def test_the_detector_s_description_is_kept(tmp_path: Path) -> None:
    content = {"model": {"backbone.weight": torch.rand(2)}, "model_spec": '{"some": "text"}'}
    torch.save(content, tmp_path / "checkpoint.pth")
    for only in ([], ["--only", "backbone"]):
        save_weights.main(
            [str(tmp_path / "checkpoint.pth"), str(tmp_path / "w.safetensors"), *only]
        )
        described = read(str(tmp_path / "w.safetensors")).get("model_spec")
        assert described == (None if only else '{"some": "text"}')


def test_only_a_part_is_written(tmp_path: Path) -> None:
    model = {"backbone.stem.weight": torch.rand(2), "backbone_too.weight": torch.rand(2)}
    torch.save({"model": model}, tmp_path / "checkpoint.pth")
    output = tmp_path / "backbone.safetensors"
    save_weights.main([str(tmp_path / "checkpoint.pth"), str(output), "--only", "backbone"])
    assert list(read(str(output))["model"]) == ["backbone.stem.weight"]


def test_half_precision_is_that_of_the_floating_point_weights(tmp_path: Path) -> None:
    model = {"head.weight": torch.rand(2, 3), "norm.num_batches_tracked": torch.tensor(70_000)}
    torch.save({"model": model}, tmp_path / "checkpoint.pth")
    output = tmp_path / "half.safetensors"
    save_weights.main([str(tmp_path / "checkpoint.pth"), str(output), "--half"])
    written = read(str(output))["model"]
    assert torch.equal(written["head.weight"], model["head.weight"].half())
    assert written["norm.num_batches_tracked"] == 70_000


def test_a_missing_part_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"backbone.weight": torch.rand(2)}}, tmp_path / "checkpoint.pth")
    output = tmp_path / "neck.safetensors"
    with pytest.raises(SystemExit, match="no weights of --only neck"):
        save_weights.main([str(tmp_path / "checkpoint.pth"), str(output), "--only", "neck"])
    assert not output.exists()
