import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "datasets/prepare_synthkitti.py"


@pytest.fixture
def run(monkeypatch):
    main = runpy.run_path(str(SCRIPT))["main"]

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["prepare_synthkitti.py", *map(str, arguments)])
        main()

    return call


def test_draws_the_given_number_of_frames(run, tmp_path):
    run("--frames", 3, "--seed", 9, "--out", tmp_path / "tree")
    assert len(list((tmp_path / "tree/training/image_2").iterdir())) == 3
    assert len(list((tmp_path / "tree/training/label_2").iterdir())) == 3


def test_draws_a_preview_instead(run, tmp_path):
    run("--frames", 4, "--preview", tmp_path / "grid.png", "--out", tmp_path / "tree")
    width, height = Image.open(tmp_path / "grid.png").size
    assert width >= 3 * 320 and height >= 2 * 96  # three columns, two rows
    assert not (tmp_path / "tree").exists()


def test_zero_frames_are_rejected(run, capsys):
    with pytest.raises(SystemExit):
        run("--frames", 0)
    assert "at least 1" in capsys.readouterr().err
