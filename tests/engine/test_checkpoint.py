"""Tests checkpoints: their content, what is refused and what an interruption leaves."""

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.ema import ModelEma
from projects.clockdistill.engine.weights import CheckpointError


class _NeedsCode:
    """An object that only pickled code can bring back."""


def _detector(num_classes: int = 2, width: int = 8) -> nn.Module:
    """Returns a module with a detector's names; the checkpointer runs none."""
    parts = {
        "backbone": nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width)),
        "class_embed": nn.Linear(width, num_classes),
        "bbox_embed": nn.Linear(width, 4),
    }
    return nn.ModuleDict(parts)


def _distiller() -> nn.Module:
    parts = {"student": _detector(), "teacher": _detector(), "distill_modules": nn.Linear(2, 2)}
    return nn.ModuleDict(parts)


def _equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


# ------------------------------------------------------------------ what is in the file


def test_file_holds_the_plain_student_and_never_the_teacher(tmp_path: Path) -> None:
    model = _distiller()
    DetectorCheckpointer(model, str(tmp_path), trainer=nn.Linear(1, 1)).save("model_final")
    content = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert set(content) == {"model", "distill", "trainer"}
    assert _equal(content["model"], model.student.state_dict())
    assert _equal(content["distill"], model.distill_modules.state_dict())
    plain = _detector()
    DetectorCheckpointer(plain).load_exact(str(tmp_path / "model_final.pth"), "key")
    assert _equal(plain.state_dict(), model.student.state_dict())


def test_every_file_tells_its_model_spec(tmp_path: Path) -> None:
    spec = '{"class_names": ["a"], "input_format": "RGB", "pixel_mean": [0], "pixel_std": [1]}'
    writer = DetectorCheckpointer(_detector(), str(tmp_path), model_spec=spec)
    writer.save("model_final")
    writer.save_weights("model_best")
    reader = DetectorCheckpointer(_detector(), str(tmp_path))
    for name in ("model_final.pth", "model_best.pth"):
        reader.load_exact(str(tmp_path / name), "key")
        assert reader.loaded_spec == spec
    reader.save("without")
    reader.load_exact(str(tmp_path / "without.pth"), "key")
    assert reader.loaded_spec is None
    assert DetectorCheckpointer(_detector(), str(tmp_path), model_spec=spec).resume()


def test_resume_restores_weights_distill_modules_and_parts(tmp_path: Path) -> None:
    saved = _distiller()
    part = nn.Linear(1, 1)
    DetectorCheckpointer(saved, str(tmp_path), trainer=part).save("model_0000006")

    model, other = _distiller(), nn.Linear(1, 1)
    teacher = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    assert DetectorCheckpointer(model, str(tmp_path), trainer=other).resume()
    assert _equal(other.state_dict(), part.state_dict())
    assert _equal(model.student.state_dict(), saved.student.state_dict())
    assert _equal(model.distill_modules.state_dict(), saved.distill_modules.state_dict())
    assert _equal(model.teacher.state_dict(), teacher)


def test_parts_of_the_distillation_may_be_switched_off_but_not_on(tmp_path: Path, caplog) -> None:
    saved, less, more = (_distiller() for _ in range(3))
    saved.distill_modules = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(2, 2)})
    less.distill_modules = nn.ModuleDict({"a": nn.Linear(1, 1)})
    more.distill_modules = nn.ModuleDict({**saved.distill_modules, "c": nn.Linear(3, 3)})
    DetectorCheckpointer(saved, str(tmp_path)).save("model_0000006")
    assert DetectorCheckpointer(less, str(tmp_path)).resume()
    assert torch.equal(less.distill_modules["a"].weight, saved.distill_modules["a"].weight)
    with pytest.raises(CheckpointError, match=r"lacks parts of the distillation:\n  c\..*\nFix: "):
        DetectorCheckpointer(more, str(tmp_path)).resume()


def test_resume_ignores_the_best_weights(tmp_path: Path) -> None:
    checkpointer = DetectorCheckpointer(_detector(), str(tmp_path))
    assert not checkpointer.resume()  # there is nothing yet
    checkpointer.save("model_0000004")
    checkpointer.save_weights("model_best")
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"
    assert set(torch.load(tmp_path / "model_best.pth", weights_only=True)) == {"model"}


def test_process_resumes_where_the_main_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = _detector()
    DetectorCheckpointer(early, str(tmp_path)).save("model_0000001")
    DetectorCheckpointer(_detector(), str(tmp_path)).save("model_0000003")
    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: False)

    def resumed_from(main_path: str) -> nn.Module:
        monkeypatch.setattr("detectron2.utils.comm.all_gather", lambda own: [(main_path, ""), own])
        model = _detector()
        assert DetectorCheckpointer(model, str(tmp_path)).resume() == bool(main_path)
        return model

    path = tmp_path / "model_0000001.pth"
    assert _equal(resumed_from(str(path)).state_dict(), early.state_dict())
    resumed_from("")
    path.unlink()  # as on a machine that does not share the folder
    with pytest.raises(CheckpointError, match="Fix: set train.output_dir to a folder that all"):
        resumed_from(str(path))


def test_file_holds_the_evaluated_average_and_resume_takes_the_raw_weights(tmp_path: Path) -> None:
    model = _detector()
    ema = ModelEma(model, decay=0.9)
    average = {key: value.clone() for key, value in model.state_dict().items()}
    nn.init.constant_(model.class_embed.bias, 3.0)
    raw = {key: value.clone() for key, value in model.state_dict().items()}
    DetectorCheckpointer(model, str(tmp_path), ema=ema, evaluates_ema=True).save("model_final")

    plain = _detector()
    DetectorCheckpointer(plain).load_exact(str(tmp_path / "model_final.pth"), "key")
    assert _equal(plain.state_dict(), average)

    resumed = _detector()
    other = ModelEma(resumed, decay=0.9)
    DetectorCheckpointer(resumed, str(tmp_path), ema=other, evaluates_ema=True).resume()
    assert _equal(resumed.state_dict(), raw)
    assert _equal(other.module.state_dict(), average)


def test_average_enabled_at_resume_starts_from_the_weights(tmp_path: Path) -> None:
    model = _detector()
    DetectorCheckpointer(model, str(tmp_path)).save("model_final")
    resumed = _detector()
    ema = ModelEma(resumed, decay=0.9)
    DetectorCheckpointer(resumed, str(tmp_path), ema=ema).resume()
    assert _equal(ema.module.state_dict(), model.state_dict())


# ------------------------------------------------------------------ interruptions


def test_interrupted_write_leaves_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _detector()
    checkpointer = DetectorCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def dies(content: object, handle) -> None:
        handle.write(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", dies)
    nn.init.zeros_(model.class_embed.weight)
    with pytest.raises(OSError, match="No space"):
        checkpointer.save("model_final")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# ------------------------------------------------------------------ safety


def test_objects_beside_the_weights_are_left_out(tmp_path: Path, caplog) -> None:
    weights = _detector().state_dict()
    path = tmp_path / "weights.pth"
    torch.save({"model": weights, "note": _NeedsCode(), "best": np.float64(0.5)}, path)
    model = _detector()
    DetectorCheckpointer(model).load_initial(str(path))
    assert _equal(model.state_dict(), weights)
    assert "objects of tests.engine.test_checkpoint._NeedsCode, which were neither" in caplog.text


def test_original_repositories_keep_their_options_in_the_file(tmp_path: Path, caplog) -> None:
    weights = _detector().state_dict()
    options = argparse.Namespace(lr=1e-4, backbone="resnet50", device="cuda")
    torch.save({"model": weights, "args": options, "epoch": 49}, tmp_path / "checkpoint0049.pth")
    model = _detector()
    DetectorCheckpointer(model).load_exact(str(tmp_path / "checkpoint0049.pth"), "key")
    assert _equal(model.state_dict(), weights)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_of_detectron2s_model_zoo_load(tmp_path: Path, protocol: int) -> None:
    weights = _detector().state_dict()
    arrays = {key: value.numpy() for key, value in weights.items()}
    content = {"model": arrays, "__author__": "somebody", "matching_heuristics": True}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol))
    model = _detector()
    DetectorCheckpointer(model).load_exact(str(tmp_path / "w.pkl"), "key")
    assert _equal(model.state_dict(), weights)


def test_safetensors_load(tmp_path: Path) -> None:
    weights = _detector().state_dict()
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(weights, path)
    model = _detector()
    DetectorCheckpointer(model).load_exact(str(path), "key")
    assert _equal(model.state_dict(), weights)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="damaged"):
        DetectorCheckpointer(model).load_exact(str(path), "key")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s}])
def test_usual_forms_of_a_weight_file_load(tmp_path: Path, wrap) -> None:
    weights = _detector().state_dict()
    torch.save(wrap({f"module.{key}": value for key, value in weights.items()}), tmp_path / "w.pth")
    model = _detector()
    DetectorCheckpointer(model).load_exact(str(tmp_path / "w.pth"), "key")
    assert _equal(model.state_dict(), weights)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="it has: epoch, loss"):
        DetectorCheckpointer(_detector()).load_initial(str(tmp_path / "w.pth"))
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="none of its keys fits"):
        DetectorCheckpointer(_detector()).load_initial(str(tmp_path / "w.pth"))
    with pytest.raises(CheckpointError, match=r"train\.init_checkpoint=.*nowhere\.pth"):
        DetectorCheckpointer(_detector()).load_initial(str(tmp_path / "nowhere.pth"))


# ------------------------------------------------------------------ weights that do not fit


def test_start_from_another_class_count_lists_the_keys_that_keep_their_values(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other, model = _detector(num_classes=3), _detector()
    DetectorCheckpointer(other, str(tmp_path)).save("three")
    fresh = model.class_embed.weight.clone()
    DetectorCheckpointer(model).load_initial(str(tmp_path / "three.pth"))
    assert "class_embed.weight: (3, 8) in the file, (2, 8) in the model" in caplog.text
    assert "class_embed.bias: (3,) in the file, (2,) in the model" in caplog.text
    assert torch.equal(model.class_embed.weight, fresh)
    assert torch.equal(model.bbox_embed.weight, other.bbox_embed.weight)


def test_exact_load_refuses_other_shapes_on_three_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    DetectorCheckpointer(_detector(width=4), str(tmp_path)).save("narrow")
    with caplog.at_level("DEBUG"), pytest.raises(CheckpointError) as caught:
        DetectorCheckpointer(_detector()).load_exact(str(tmp_path / "narrow.pth"), "key")
    lines = str(caught.value).splitlines()
    # all but the two biases of the heads: 2 + 4 of the backbone, 2 of the heads
    assert lines[1].startswith("  backbone.0.weight: (4, 3) in the file, (8, 3) in the model; ")
    assert lines[1].endswith("; and 5 more")
    assert lines[2].startswith("Fix: ")
    assert len(lines) == 3
    assert "bbox_embed.weight: (4, 4) in the file, (4, 8) in the model" in caplog.text


def test_exact_load_refuses_missing_and_unexpected_keys(tmp_path: Path) -> None:
    weights = _detector().state_dict()
    weights["extra.weight"] = weights.pop("bbox_embed.bias")
    path = str(tmp_path / "w.pth")
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match=r"bbox_embed\.bias: not in the file"):
        DetectorCheckpointer(_detector()).load_exact(path, "key")
    weights["bbox_embed.bias"] = weights["extra.weight"]
    torch.save(weights, path)
    DetectorCheckpointer(_detector()).load_exact(path, "key")
    with pytest.raises(CheckpointError, match=r"extra\.weight"):
        DetectorCheckpointer(_detector()).load_exact(path, "key", allow_unexpected=False)


def test_resume_refuses_another_model(tmp_path: Path) -> None:
    DetectorCheckpointer(_detector(width=8), str(tmp_path)).save("model_final")
    with pytest.raises(CheckpointError, match=r"backbone\.0\.weight: .*\nFix: "):
        DetectorCheckpointer(_detector(width=4), str(tmp_path)).resume()
