"""One reproduction in one folder, and none beside runs that outlived their parent."""

import subprocess

import pytest

from reproduction.lock import exclusive


def test_a_second_one_is_refused_and_a_later_one_is_not(tmp_path):
    with (
        exclusive(tmp_path),
        pytest.raises(RuntimeError, match="is at work in"),
        exclusive(tmp_path),
    ):
        pass
    with exclusive(tmp_path), exclusive(tmp_path / "another"):
        pass


def test_a_program_that_lives_on_holds_it(tmp_path):
    with exclusive(tmp_path) as descriptor:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
    try:
        with pytest.raises(RuntimeError), exclusive(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
    with exclusive(tmp_path):
        pass
