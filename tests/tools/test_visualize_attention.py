"""Tests `tools/visualize.py attention` from end to end, on a tiny DINO with random weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import visualize
from omegaconf import OmegaConf
from PIL import Image

from projects.clockdistill.engine.config_file import load_config, save_config
from tests.tiny_predictor import write_run
from tests.tiny_run import DISTILLED, PLAIN, TEACHER, tiny_overrides


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run of a plain detector, in a working directory with pictures/000.png and 001.png."""
    folder = write_run(load_config(PLAIN, tiny_overrides(tmp_path)))
    (tmp_path / "pictures").mkdir()
    for index in range(2):
        shutil.copy(tmp_path / f"drawings_val/00{index}.png", tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    return folder


def draw(*arguments: object) -> None:
    visualize.main(["attention", *map(str, arguments)])


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        draw(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) <= 3
    return message


def written(folder: str = "attention") -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_every_picture_has_a_figure_and_its_captions_are_printed(run, capsys) -> None:
    draw("--run", run, "pictures", "--threshold", 0.2)
    assert written() == {"000_attention.png", "001_attention.png"}
    width, height = Image.open("attention/000_attention.png").size
    assert width > 600 and height > 600  # two panels of 64 x 48 pixels, one above the other
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(Path("attention/000_attention.png"))
    assert lines[1].startswith("  output (DINO): ") and lines[1].endswith(" points")
    assert len(lines) == 2 * 3
    draw("--run", run, "pictures/000.png", "--features", "--level", 2, "--output", "b")
    draw(
        "--run",
        run,
        "pictures/000.png",
        "--point",
        "3.5,7",
        "--layer",
        "all",
        "--draw",
        "map",
        "--output",
        "b",
    )
    assert written("b") == {
        "000_features_level_2.png",
        "000_attention_layer_all_point_3.5_7.png",
    }


def test_student_teacher_and_further_runs_are_side_by_side(run, tmp_path, capsys) -> None:
    teacher_root, student_root = tmp_path / "t", tmp_path / "s"
    for root in (teacher_root, student_root):
        root.mkdir()
    teacher = write_run(load_config(TEACHER, tiny_overrides(teacher_root)))
    cfg = load_config(DISTILLED, tiny_overrides(student_root, DISTILLED))
    cfg.model.teacher_checkpoint = str(teacher / "model_final.pth")
    student = Path(cfg.train.output_dir)
    student.mkdir()
    save_config(cfg, student / "config.yaml")
    weights = load_config(PLAIN, tiny_overrides(student_root))
    weights.train.output_dir = str(tmp_path / "weights")
    shutil.copy(write_run(weights) / "model_final.pth", student)

    draw("--run", student, "--compare", f"undistilled={run}", "pictures/000.png", "--draw", "map")
    titles = [line.split(" (")[0].strip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert titles == ["student", "teacher", "undistilled"]
    twice = ("--run", student, "--compare", f"teacher={run}", "pictures/000.png")
    assert "two columns are called teacher" in refused(*twice)
    # without the teacher's file, the others are shown
    OmegaConf.update(cfg, "model.teacher_checkpoint", str(tmp_path / "gone.pth"))
    save_config(cfg, student / "config.yaml")
    draw("--run", student, "pictures/000.png", "--draw", "map")
    titles = [line.split(" (")[0].strip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert titles == ["student"]


def test_what_cannot_be_shown_is_refused_in_one_line(run, tmp_path) -> None:
    picture = "pictures/000.png"
    assert "query 99 is out of range" in refused("--run", run, picture, "--query", 99)
    assert "outside of the image" in refused("--run", run, picture, "--point", "64,1")
    assert "neither layers nor heads" in refused("--run", run, picture, "--features", "--head", 1)
    assert "leave out one" in refused("--run", run, picture, "--each", "head", "--head", 1)
    assert "is an exported file" in refused("--run", "student.onnx", picture)
    assert "belong together" in refused("--run", run, picture, "--weights", "student.pth")
    Path("clip.mp4").touch()
    assert "clip.mp4 is a video" in refused("--run", run, "clip.mp4")
    original = np.asarray(Image.open(picture))
    Image.fromarray(original).save("pictures/000_attention.png")
    assert "would be replaced" in refused("--run", run, "pictures", "--output", "pictures")
    assert not Path("attention").exists()


def test_pictures_that_cannot_be_used_are_named_and_the_others_go_on(run, caplog) -> None:
    Path("pictures/000.png").write_bytes(b"no picture")
    assert "1 of 2 files could not be used" in refused("--run", run, "pictures", "--draw", "map")
    assert "000.png" in caplog.text
    assert written() == {"001_attention.png"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--detection", "0"],
        ["--point", "3"],
        ["--threshold", "2"],
        ["--compare", "run"],
        ["--layer", "last"],
        ["--query", "1", "--detection", "1"],
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_the_parser(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        draw("--run", "run", "picture.png", *arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err
