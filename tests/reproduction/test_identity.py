"""The same content has the same digest, in any process; other content another."""

import subprocess
import sys

import pytest

from projects.clockdistill.data import ensure_tree
from projects.clockdistill.engine.config_file import load_config
from reproduction import identity
from reproduction.identity import config_hash, data_hash, file_hash

CONFIG = "mini/dino_r18_synthkitti.py"


def digest(*overrides):
    return config_hash(load_config(CONFIG, list(overrides)))


def test_places_do_not_count_and_everything_else_does():
    places = ["train.output_dir=x", "model.teacher_checkpoint=y.pth"]
    assert digest(*places, "model.teacher_cache_gib=1") == digest()
    others = ["train.seed=1", "optimizer.lr=2e-3", "model.student.num_queries=50"]
    assert len({digest(), *map(digest, others)}) == 4


def test_another_process_finds_the_same():
    code = (
        "from projects.clockdistill.engine.config_file import load_config\n"
        "from reproduction.identity import config_hash\n"
        f"print(config_hash(load_config('{CONFIG}', [])))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split()[-1] == digest()


def test_a_file_is_its_content(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    assert file_hash(one) is None
    one.write_text("a")
    other.write_text("a")
    assert file_hash(one) == file_hash(other)
    one.write_text("bc")
    assert file_hash(one) != file_hash(other)


@pytest.fixture
def fresh_cache():
    identity._data_hash.cache_clear()
    yield
    identity._data_hash.cache_clear()


@pytest.mark.usefixtures("fresh_cache")
def test_data_is_its_labels_and_images_wherever_it_lies(tmp_path, monkeypatch):
    found = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        ensure_tree(tmp_path / name / "kitti", frames=5, seed=seed)
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / name))
        found[name] = data_hash("kitti_val")
        identity._data_hash.cache_clear()
    assert found["a"] == found["b"] != found["c"]


@pytest.mark.usefixtures("fresh_cache")
def test_data_that_is_not_there_has_no_digest(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert data_hash("kitti_val") is None
    assert data_hash("no_such_dataset") is None
