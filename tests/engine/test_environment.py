"""The commit that a run's record names."""

import subprocess

import pytest

from projects.clockdistill.engine import environment


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one committed table of results and one file of code."""
    files = [tmp_path / "code.py", tmp_path / "reproduction/results/table5_mini.md"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("before")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (["init"], ["add", "."], [*author, "commit", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    return files


def test_tables_written_during_runs_are_no_changes(repository):
    code, table = repository
    first = environment.commit()
    assert len(first) == 12
    table.write_text("after")
    assert environment.commit() == first
    code.write_text("after")
    assert environment.commit() == f"{first}+changes"


def test_without_a_repository_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert environment.commit() == "unknown"
