"""Tests the installed project: it is found from any folder, next to other projects, and pinned."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_python(code: str, folder: Path, **environment: str) -> str:
    """Returns the output of code that runs in another folder, without the path of this test run."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_the_package_is_found_from_another_folder(tmp_path):
    code = "import projects.clockdistill as c; print(c.__file__)"
    expected = ROOT / "projects" / "clockdistill" / "__init__.py"
    assert Path(run_python(code, tmp_path)) == expected


def test_projects_of_another_checkout_are_found_next_to_ours(tmp_path):
    other = tmp_path / "other" / "projects" / "another"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("name = 'another'\n")
    code = "import projects.clockdistill, projects.another; print(projects.another.name)"
    # found through the path and through the working folder
    assert run_python(code, tmp_path, PYTHONPATH=str(tmp_path / "other")) == "another"
    assert run_python(code, tmp_path / "other") == "another"


def test_every_dependency_is_pinned_to_the_version_that_is_tested():
    declared = re.findall(r'"([\w-]+)>=', (ROOT / "pyproject.toml").read_text())
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert len(declared) > 10
    assert set(declared) - {"setuptools"} <= set(pinned)
