"""benchmarks/run.py from end to end, at tiny sizes."""

import json
import pickle
import re
import sys
from collections.abc import Callable
from functools import partial

import pytest

from benchmarks import pair, run
from benchmarks.opponents import OPPONENTS
from benchmarks.pair import QUICK, Build, Disagreement, Scale
from benchmarks.pairs import PAIRS, distillation, evaluation, pairs_against

SHORT = ["--against", "self", "--quick", "--rounds", "1"]


def test_names_are_unique_within_an_opponent():
    keys = [(pair.against, pair.name) for pair in PAIRS]
    assert len(set(keys)) == len(keys)
    assert {pair.against for pair in PAIRS} == set(OPPONENTS)


def test_pairs_are_chosen_by_name():
    (pair,) = pairs_against("detrex", ["dino_r18_training"])
    assert pair.name == "dino_r18_training"
    with pytest.raises(ValueError, match="--only floor: .* against self.*dino_r50_floor"):
        pairs_against("self", ["floor"])


def peak_bytes_here(build: Build, scale: Scale) -> Callable[[], float]:
    """Runs in this process, which is faster; test_pair.py measures processes."""
    pickled = pickle.dumps(build)

    def measure() -> float:
        pickle.loads(pickled)(scale)()
        return 1.0

    return measure


# exporting takes long; the pairs differ in the config and in names of files alone
EXPORTS = re.compile("(mini_student|dino_r18|dino_r50)_(onnx|openvino)")
NAMES = [pair.name for pair in pairs_against("self", []) if not EXPORTS.match(pair.name)]
NAMES.append("mini_student_onnxruntime")


@pytest.mark.parametrize("name", NAMES)
def test_each_pair_runs(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pair, "peak_bytes", peak_bytes_here)
    file = tmp_path / "new folder/figures.json"
    run.main([*SHORT, "--only", name, "--json", str(file)])
    content = json.loads(file.read_text())
    assert list(content) == ["against", "settings", "environment", "pairs", "refused"]
    assert content["settings"] == {"rounds": 1, "quick": True}
    (row,) = content["pairs"]
    assert row["name"] == name and row["ratio"]["median"] > 0 and content["refused"] == {}
    printed = capsys.readouterr().out
    assert f"measuring: {name}" in printed and row["target"] in printed


def test_a_refused_pair_is_named_and_others_are_measured(monkeypatch, tmp_path, capsys):
    def refuse(*_):
        raise Disagreement("AP: ours 1, theirs 2")

    monkeypatch.setattr(evaluation, "same_figures", refuse)
    file = tmp_path / "figures.json"
    names = ["coco_evaluation", "mini_distillation"]
    with pytest.raises(SystemExit, match="1 of 2 pairs were refused"):
        run.main([*SHORT, "--only", *names, "--json", str(file)])
    content = json.loads(file.read_text())
    assert content["refused"] == {"coco_evaluation": "AP: ours 1, theirs 2"}
    assert [row["name"] for row in content["pairs"]] == ["mini_distillation"]
    assert "refused: AP: ours 1, theirs 2" in capsys.readouterr().out


def test_other_student_losses_in_the_distillation_step_are_refused(monkeypatch):
    found = iter([{"loss_class": 2.0}, {"loss_class": 2.1, "loss_distill_memory": 1.0}])
    monkeypatch.setattr(distillation, "losses", lambda model, batch: next(found))
    with pytest.raises(Disagreement, match="loss_class"):
        distillation.same_student(partial(distillation.distiller, 300), QUICK)


@pytest.mark.parametrize(
    ("against", "module", "fix"),
    [
        ("detrex", "detrex", "PYTHONPATH=<a checkout of github.com/IDEA-Research/detrex>"),
        ("transformers", "transformers", r"pip install -e '.\[bench\]'"),
        ("self", "pycocotools", r"pip install -e '.\[bench\]'"),
    ],
)
def test_a_missing_opponent(monkeypatch, against, module, fix):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(SystemExit, match=f"error: .*{module}.*{fix}"):
        run.main(["--against", against])


def test_a_profile_names_the_operators_of_both_sides(capsys):
    run.main([*SHORT, "--only", "mini_distillation", "--profile"])
    printed = capsys.readouterr().out
    assert "mini_distillation, ours:" in printed and "mini_distillation, theirs:" in printed
    assert "aten::addmm" in printed
