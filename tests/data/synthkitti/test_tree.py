import dataclasses
import logging
import multiprocessing
from pathlib import Path

import pytest

from projects.clockdistill.data.kitti import load_kitti
from projects.clockdistill.data.kitti_presets import PRESETS
from projects.clockdistill.data.kitti_tree import read_tree
from projects.clockdistill.data.synthkitti import render, tree
from projects.clockdistill.data.synthkitti.style import SceneStyle
from projects.clockdistill.data.synthkitti.tree import ensure_tree, read_stamp


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "data" / "synthkitti"


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_drawn_tree_is_a_kitti_tree(root):
    assert ensure_tree(root, frames=10, seed=4) == root
    frames = read_tree(root)
    assert [frame.name for frame in frames] == [f"{index:06d}" for index in range(10)]
    assert {(frame.width, frame.height) for frame in frames} == {(320, 96)}
    dicts = load_kitti(PRESETS["kitti7"], "train", root)
    assert len(dicts) == 8 and any(record["annotations"] for record in dicts)


def test_the_same_seed_draws_the_same_bytes(root, tmp_path):
    ensure_tree(root, frames=3, seed=4)
    ensure_tree(tmp_path / "again", frames=3, seed=4)
    ensure_tree(tmp_path / "other", frames=3, seed=5)
    assert contents(root) == contents(tmp_path / "again")
    assert contents(root) != contents(tmp_path / "other")


def test_a_complete_tree_is_not_drawn_again(root, monkeypatch):
    ensure_tree(root, frames=2)
    monkeypatch.setattr(render, "draw_frame", lambda *_: pytest.fail("drawn again"))
    assert ensure_tree(root, frames=2) == root


def test_a_tree_of_other_code_or_style_is_redrawn(root, monkeypatch, caplog):
    ensure_tree(root, frames=2)
    before = contents(root)
    style = dataclasses.replace(SceneStyle(), noise=(20.0, 20.0))
    with caplog.at_level(logging.WARNING):
        ensure_tree(root, frames=2, style=style)
    assert "replaced" in caplog.text
    assert contents(root) != before
    monkeypatch.setattr(tree, "DRAWING_VERSION", 10**6)
    ensure_tree(root, frames=2)
    assert read_stamp(root).version == 10**6


@pytest.mark.parametrize("changed", [{"frames": 3}, {"seed": 1}])
def test_a_tree_of_another_seed_or_size_is_kept(root, changed):
    ensure_tree(root, frames=2, seed=0)
    before = contents(root)
    with pytest.raises(ValueError, match="seed 0 and 2 frames.*Fix: move it away"):
        ensure_tree(root, **({"frames": 2, "seed": 0} | changed))
    assert contents(root) == before


def test_a_folder_without_a_stamp_is_kept(root):
    root.mkdir(parents=True)
    (root / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"no synthkitti\.json"):
        ensure_tree(root, frames=2)
    assert contents(root) == {"mine.txt": b"precious"}


def test_a_damaged_stamp_is_named(root):
    ensure_tree(root, frames=2)
    (root / "synthkitti.json").write_text('{"seed": 0')
    with pytest.raises(ValueError, match=r"damaged stamp .*synthkitti\.json.*Fix: delete"):
        ensure_tree(root, frames=2)


def test_an_interrupted_drawing_leaves_no_partial_tree(root, monkeypatch):
    draw = render.draw_frame

    def power_cut(seed, index, style):
        if index == 2:
            raise KeyboardInterrupt
        return draw(seed, index, style)

    monkeypatch.setattr(render, "draw_frame", power_cut)
    with pytest.raises(KeyboardInterrupt):
        ensure_tree(root, frames=4)
    assert not root.exists()
    monkeypatch.setattr(render, "draw_frame", draw)
    ensure_tree(root, frames=4)
    assert len(read_tree(root)) == 4
    left = {path.name for path in root.parent.iterdir() if path.is_dir()}
    assert left == {"synthkitti"}


def test_processes_that_start_at_once_draw_one_tree(root, monkeypatch, tmp_path):
    draw = render.draw_frame

    def counted(seed, index, style):
        with (tmp_path / "drawn").open("a") as file:
            file.write("x")
        return draw(seed, index, style)

    monkeypatch.setattr(render, "draw_frame", counted)
    fork = multiprocessing.get_context("fork")  # so that the children see the patched function
    children = [fork.Process(target=ensure_tree, args=(root, 12)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert (tmp_path / "drawn").read_text() == "x" * 12
    assert len(read_tree(root)) == 12
