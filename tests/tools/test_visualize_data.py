"""Tests the commands data and detections of tools/visualize.py from end to end."""

import json
from pathlib import Path

import pytest
import torch
import visualize
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from PIL import Image

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.config_file import load_config, save_config
from tests.tiny_predictor import write_run
from tests.tiny_run import DISTILLED, PLAIN, OracleDetector, tiny_overrides


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        visualize.main([str(argument) for argument in arguments])
    message = str(caught.value)
    assert message.startswith("error: ") and len(message.splitlines()) <= 3
    return message


def write_results(run: Path, results: list[dict]) -> None:
    (run / "inference").mkdir(exist_ok=True)
    (run / "inference/coco_instances_results.json").write_text(json.dumps(results))


def perfect_results() -> list[dict]:
    """Every object of the test data, found."""
    return [
        {
            "image_id": record["image_id"],
            "category_id": item["category_id"],
            "bbox": [*item["bbox"][:2], 16, 16],
            "score": 0.9,
        }
        for record in DatasetCatalog.get("drawings_val")
        for item in record["annotations"]
    ]


def row(out: str, name: str) -> list[int]:
    """The last row of a printed table: hits, missed, wrong class, false alarms."""
    line = [line for line in out.splitlines() if line.startswith(f"| {name} ")][-1]
    return [int(cell) for cell in line.strip("|").split("|")[1:]]


def test_data_writes_a_table_and_two_pictures(tmp_path: Path, capsys) -> None:
    arguments = ["data", "--config-file", PLAIN, "--images", "3", *tiny_overrides(tmp_path)]
    visualize.main(arguments)
    out = capsys.readouterr().out
    assert "| images without objects" in out and "training: drawings_train" in out
    for name in ("statistics", "train_images"):
        assert Image.open(f"data_check/{name}.png").width > 500
        assert f"data_check/{name}.png" in out


def test_data_refuses_what_training_refuses(tmp_path: Path) -> None:
    overrides = tiny_overrides(tmp_path)
    assert "did you mean" in refused("data", "--config-file", "mini/dino_r18_synthkiti.py")
    names = "dataloader.train.dataset.names=nowhere"
    assert "not a registered dataset" in refused("data", "--config-file", PLAIN, *overrides, names)
    Path("taken").touch()
    taken = ("data", "--config-file", PLAIN, "--output", "taken", *overrides)
    assert "taken" in refused(*taken)
    assert not Path("data_check").exists()


def test_detections_of_an_evaluation_are_used(tmp_path: Path, capsys) -> None:
    run = write_run(load_config(PLAIN, tiny_overrides(tmp_path)))
    results = perfect_results()
    write_results(run, results[1:])
    visualize.main(["detections", "--run", str(run), "--images", "2"])
    out = capsys.readouterr().out
    assert "all 8 images" in out
    assert row(out, "student")[1:] == [1, 0, 0]
    with Image.open("detections/detections.png") as picture:
        assert picture.width > 500


def test_without_an_evaluation_the_detector_runs(tmp_path: Path, capsys, monkeypatch) -> None:
    run = write_run(load_config(PLAIN, tiny_overrides(tmp_path)))
    oracle = OracleDetector("drawings_val")
    monkeypatch.setattr("projects.clockdistill.deployment.loading.build", lambda *_: oracle)
    monkeypatch.setattr(DetectorCheckpointer, "load_exact", lambda *_, **__: None)
    visualize.main(["detections", "--run", str(run), "--device", "cpu"])
    assert row(capsys.readouterr().out, "student") == [len(perfect_results()), 0, 0, 0]


def test_teacher_and_other_runs_have_columns(tmp_path: Path, capsys) -> None:
    run, other = tmp_path / "output", tmp_path / "other"
    cfg = load_config(DISTILLED, tiny_overrides(tmp_path, DISTILLED))
    teacher = instantiate(cfg.model.teacher)
    torch.save({"model": teacher.state_dict()}, "teacher.pth")
    cfg.model.teacher_checkpoint = "teacher.pth"
    for folder in (run, other):
        folder.mkdir()
        save_config(cfg, folder / "config.yaml")
    write_results(run, [])
    write_results(other, perfect_results())
    arguments = ["detections", "--run", str(run), "--images", "2", "--device", "cpu"]
    visualize.main([*arguments, "--compare", f"undistilled={other}", "--threshold", "0"])
    out = capsys.readouterr().out
    assert row(out, "student") == [0, 4, 0, 0]  # two images of two objects
    assert row(out, "undistilled") == [4, 0, 0, 0]
    assert sum(row(out, "teacher")) > 4  # of 20 detections in each image
    assert "two columns are called teacher" in refused(*arguments, "--compare", f"teacher={other}")


def test_a_teacher_without_weights_has_no_column(tmp_path: Path, capsys, caplog) -> None:
    cfg = load_config(DISTILLED, tiny_overrides(tmp_path, DISTILLED))
    run = tmp_path / "output"
    run.mkdir()
    save_config(cfg, run / "config.yaml")
    write_results(run, [])
    visualize.main(["detections", "--run", str(run), "model.teacher_checkpoint=nowhere.pth"])
    assert "no column of the teacher: model.teacher_checkpoint=nowhere.pth" in caplog.text
    assert "| teacher" not in capsys.readouterr().out


def test_runs_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    assert "is not a folder" in refused("detections", "--run", "nowhere")
    run = write_run(load_config(PLAIN, tiny_overrides(tmp_path)))
    write_results(run, [{"image_id": 99, "category_id": 0, "bbox": [0, 0, 1, 1], "score": 1}])
    assert "99" in refused("detections", "--run", run)
    write_results(run, [{"image_id": 1}])
    assert "holds no COCO results" in refused("detections", "--run", run)
    assert "nowhere is not a folder" in refused(
        "detections", "--run", run, "--compare", "a=nowhere"
    )
    other = "dataloader.test.dataset.names=drawings_test"
    assert "not a registered dataset" in refused("detections", "--run", run, other)
