"""Tests that a file has either its old or its new content."""

from pathlib import Path

import pytest

from projects.clockdistill.engine.atomic import atomic_write


def test_new_content_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_write(path, "w") as handle:
        handle.write("new")
        handle.flush()
        assert path.read_text() == "old"  # nothing is visible before all is written
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_error_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as handle:
        handle.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
