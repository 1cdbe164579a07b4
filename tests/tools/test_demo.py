"""The demo with a step or two: it trains, evaluates and draws pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import demo
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Scenes drawn once, wherever the tests of this file run."""
    folder = tmp_path_factory.getbasetemp().parent / "demo-datasets"
    return os.environ | {"DETECTRON2_DATASETS": str(folder)}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, demo.__file__, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def test_demo_writes_table_and_pictures(environment: dict[str, str], tmp_path: Path) -> None:
    finished = run(environment, "--steps", "1", "--output", str(tmp_path))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    table = (tmp_path / "table.md").read_text()
    assert table.strip() in finished.stdout
    teacher, undistilled, distilled = (row.split("|")[1:-1] for row in table.splitlines()[2:])
    assert [row[0].strip() for row in (teacher, undistilled, distilled)] == [
        "teacher",
        "undistilled",
        "distilled",
    ]
    assert float(teacher[1]) > 60  # the shipped weights are the teacher that the README names
    for name in ("detections.png", "curves.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 10, f"{name} is empty"
        assert str(tmp_path / name) in finished.stdout
    assert (tmp_path / "student.onnx").is_file()
    report = tmp_path / "distilled" / "report.html"
    assert str(report) in finished.stdout
    assert "the same student trained without a teacher" in report.read_text()
    predicted = json.loads((tmp_path / "predictions" / "predictions.json").read_text())
    assert len(predicted["images"]) == demo.PICTURED_FRAMES
    assert demo.SHIPPED_TEACHER.stat().st_size <= 5_000_000


def test_a_missing_package_ends_the_demo_before_it_trains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--output", str(tmp_path / "demo")])
    with pytest.raises(SystemExit, match="pip install -e '.\\[export\\]'"):
        demo.main()
    assert not (tmp_path / "demo").exists()


def test_a_failing_run_ends_the_demo_with_its_last_lines(
    environment: dict[str, str], tmp_path: Path
) -> None:
    unknown = {**environment, "CLOCKDISTILL_SAMPLING": "nothing"}
    finished = run(unknown, "--steps", "1", "--output", str(tmp_path))
    assert finished.returncode == 1
    assert "teacher failed; the end of" in finished.stderr
    assert "CLOCKDISTILL_SAMPLING=nothing" in finished.stderr
