"""benchmarks/gpu.py on the CPU, and benchmarks/wheelhouse.py."""

import json
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, wheelhouse
from benchmarks.card import right
from benchmarks.card.report import ROOT, tables
from benchmarks.gpu import SECTIONS, Section
from benchmarks.models import build, detector_config, drawn_batch, losses
from benchmarks.pair import QUICK
from projects.clockdistill.modeling.detectors import matcher

REHEARSAL = ["--device", "cpu", "--quick"]


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch) -> Path:
    """Stands for the committed results."""
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "gpu.json")
    return gpu.RESULTS


@pytest.mark.slow
def test_the_whole_program(tmp_path, capsys, monkeypatch, results):
    monkeypatch.setattr(torch, "compile", lambda predict, **options: predict)  # takes ten seconds
    file = tmp_path / "new folder" / "figures.json"
    gpu.main([*REHEARSAL, "--seconds", "600", "--json", str(file)])
    content = json.loads(file.read_text())
    assert {"torch", "triton", "python", "commit", "date"} <= content["environment"].keys()
    assert list(content["sections"]) == [section.name for section in SECTIONS]
    printed = capsys.readouterr().out
    for name, entry in content["sections"].items():
        assert entry["rows"] and not entry["failures"], name
        assert f"== {name}: {entry['title']}" in printed
    assert not results.exists()


def test_the_sections_take_at_most_eight_minutes():
    assert sum(section.seconds for section in SECTIONS) <= 480


def test_results_of_a_rehearsal_are_not_those_of_a_card(results, capsys):
    with pytest.raises(SystemExit):
        gpu.main([*REHEARSAL, "--only", "kernel", "--json", str(results)])
    assert "Fix: name another file" in capsys.readouterr().err


def test_a_section_that_fails_does_not_end_the_others(monkeypatch, tmp_path, capsys):
    def wrong(run):
        run.add(figure=1.5)
        raise FloatingPointError("not finite")

    def lacking(run):
        raise ModuleNotFoundError("No module named 'iopath.common'", name="iopath.common")

    stub = types.SimpleNamespace(wrong=wrong, lacking=lacking, good=lambda run: run.add(figure=2))
    monkeypatch.setitem(sys.modules, "benchmarks.card.stub", stub)
    names = ("wrong", "lacking", "good")
    monkeypatch.setattr(gpu, "SECTIONS", [Section(name, "stub", name, "", 1) for name in names])
    file = tmp_path / "figures.json"
    with pytest.raises(SystemExit, match="wrong, lacking$"):
        gpu.main([*REHEARSAL, "--json", str(file)])
    found = json.loads(file.read_text())["sections"]
    (failure,) = found["wrong"]["failures"]
    assert failure.startswith("FloatingPointError: not finite (test_gpu.py:")
    assert found["wrong"]["rows"] == [{"figure": 1.5}]
    assert found["lacking"]["failures"] == ["not run: no module named iopath.common"]
    assert found["good"]["rows"] == [{"figure": 2}]
    assert "not run: no module named iopath.common" in capsys.readouterr().out


def test_what_a_section_has_no_time_for_is_named(tmp_path):
    file = tmp_path / "figures.json"
    gpu.main([*REHEARSAL, "--only", "inference", "--seconds", "0", "--json", str(file)])
    entry = json.loads(file.read_text())["sections"]["inference"]
    assert entry["rows"] == []
    assert "left out, no time: DINO R18 6/6, 64 x 96, batch 1" in entry["notes"]


BARE = """
import runpy, sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions

script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, script.removesuffix("/benchmarks/gpu.py"))
from benchmarks.wheelhouse import needed

# setuptools, which torch needs, has a copy of packaging
allowed = needed(["torch", "triton", "numpy", "packaging"], without=())
refused = {
    module
    for module, names in packages_distributions().items()
    if not allowed & {name.lower().replace("_", "-") for name in names}
} - {"benchmarks", "projects"}
assert refused >= {"detectron2", "fvcore", "omegaconf", "scipy", "cv2", "matplotlib", "numba"}

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
runpy.run_path(script, run_name="__main__")
"""


def test_the_kernels_sections_need_torch_triton_and_numpy_alone():
    script = str(ROOT / "benchmarks" / "gpu.py")
    options = [*REHEARSAL, "--only", "kernel", "kernel_speed", "training"]
    command = [sys.executable, "-c", BARE, script, *options]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.stderr.endswith("not as it must be: training\n"), ended.stdout + ended.stderr
    assert "FAILED: not run: no module named detectron2" in ended.stdout


def test_a_wait_for_the_device_is_named_by_our_own_line(monkeypatch):
    assign = matcher.linear_sum_assignment

    def waiting(costs):
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("another warning", stacklevel=1)
        return assign(costs)

    monkeypatch.setattr(matcher, "linear_sum_assignment", waiting)
    detector, batch = build(detector_config("dab_detr", 18, QUICK)), drawn_batch(QUICK, 1)
    found = right.places_of_warnings(lambda: losses(detector, batch), "synchronizing")
    ((place, count),) = found.items()
    assert place.startswith("modeling/detectors/matcher.py:")
    assert count == 2  # decoder layers


def test_rows_with_the_same_columns_are_one_table():
    rows = [{"a": "x", "b": 0.5}, {"a": "longer", "b": None}, {"c": 12345.6}]
    assert tables(rows) == "a         b\nx       0.5\nlonger    -\n\nc\n12346"


def test_needed_packages_are_followed_and_cut_off():
    found = wheelhouse.needed(["detectron2"], without={"torch", "torchvision", "tensorboard"})
    assert {"fvcore", "iopath", "portalocker"} <= found  # iopath needs portalocker
    assert not found & {"torch", "sympy", "grpcio"}  # torch needs sympy, tensorboard grpcio


TRAIN_WITHOUT = """
import sys
from importlib.metadata import packages_distributions
from benchmarks.wheelhouse import SKIPPED

modules = packages_distributions().items()
missing = [module for module, names in modules if {name.lower() for name in names} & set(SKIPPED)]
assert {"cv2", "matplotlib", "numba"} <= set(missing)
sys.modules |= dict.fromkeys(missing)
import train_net
"""


def test_training_needs_no_package_that_the_wheelhouse_leaves_out():
    paths = [str(ROOT), str(ROOT / "tools")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", TRAIN_WITHOUT], env=environment, check=True)


def test_a_wheelhouse_for_another_machine_alone_is_refused(tmp_path, capsys):
    (tmp_path / "pure-1.0-py3-none-any.whl").write_bytes(b"1234")
    wheelhouse.check(tmp_path, "3.12")
    assert "1 wheels for Python 3.12" in capsys.readouterr().out
    (tmp_path / "built-1.0-cp311-cp311-linux_x86_64.whl").touch()
    with pytest.raises(ValueError, match="built-1.0.* not for Python 3.12"):
        wheelhouse.check(tmp_path, "3.12")
