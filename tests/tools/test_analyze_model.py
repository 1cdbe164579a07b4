"""tools/analyze_model.py from end to end, on the mini configs and small images."""

import json
from pathlib import Path

import analyze_model
import pytest

CONFIG = "mini/dino_r18_synthkitti.py"
SMALL = ["--height", "96", "--width", "160", "--device", "cpu", "--warmup", "1", "--repeats", "2"]


def refused(*arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        analyze_model.main([*arguments])
    return str(caught.value)


def test_student_and_teacher_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "new folder/costs.json"
    analyze_model.main(["--config-file", CONFIG, *SMALL, "--json", str(file)])
    figures = json.loads(file.read_text())
    assert list(figures) == ["input", "models"] and figures["input"] == [96, 160]
    student, teacher = figures["models"]
    assert (student["name"], teacher["name"]) == ("student", "teacher")
    for smaller, larger in ((student["flops"], teacher["flops"]), *_parts(student, teacher)):
        assert 0 < smaller <= larger
    assert student["parameters"] < teacher["parameters"]
    for model in (student, teacher):
        assert sum(model["flops_by_part"].values()) == model["flops"]
        assert model["activation_bytes"] > 0
        assert model["latency_s"]["lower_quartile"] <= model["latency_s"]["median"]
        assert model["fps"] == pytest.approx(1 / model["latency_s"]["median"])
    printed = capsys.readouterr().out
    assert "| student |" in " ".join(printed.split()) and "1 CPU threads" in printed
    assert "student, not counted" in printed and "teacher, not counted" in printed


def _parts(student: dict, teacher: dict) -> list[tuple[int, int]]:
    assert student["flops_by_part"].keys() == teacher["flops_by_part"].keys()
    return [(student["flops_by_part"][part], n) for part, n in teacher["flops_by_part"].items()]


def test_a_plain_detector_is_one_model_and_overrides_apply(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    arguments = ["--config-file", "mini/baselines/dino_r18_synthkitti.py", *SMALL, "--json"]
    encoder = []
    for layers in (1, 2):
        override = f"model.transformer.encoder.num_layers={layers}"
        analyze_model.main([*arguments, str(file), override])
        (model,) = json.loads(file.read_text())["models"]
        assert model["name"] == "model"
        encoder.append(model["flops_by_part"]["encoder"])
    assert encoder[1] == 2 * encoder[0]


def test_the_cpu_replaces_a_device_that_is_not_available() -> None:
    cfg = analyze_model.load_config(CONFIG, ["train.device=mtia"])  # hardly ever available
    assert analyze_model.choose_device(cfg, None).type == "cpu"


def test_wrong_options_are_refused() -> None:
    assert "Fix: use --device=cpu" in refused("--config-file", CONFIG, "--device", "mtia")
    assert "--device=teapot: expected a device" in refused(
        "--config-file", CONFIG, "--device", "teapot"
    )
    assert "there is no such file" in refused("--config-file", "nowhere.py")
    assert "did you mean" in refused("--config-file", CONFIG, *SMALL, "model.student.num_querys=3")


def test_an_image_too_small_is_refused() -> None:
    tiny = ["--height", "16", "--width", "16", "--device", "cpu"]
    assert "larger images" in refused("--config-file", CONFIG, *tiny)


def test_numbers_must_be_positive(capsys: pytest.CaptureFixture) -> None:
    refused("--config-file", CONFIG, "--repeats", "0")
    assert "of at least 1" in capsys.readouterr().err
