"""benchmarks/run.py from end to end, on the pairs that need nothing else, at tiny sizes."""

import json
import pickle
from collections.abc import Callable
from functools import partial

import pytest

from benchmarks import run
from benchmarks.models import built, tree
from benchmarks.pair import OPPONENTS, Disagreement
from benchmarks.pairs import PAIRS, distillation, evaluation, pairs_against
from benchmarks.scale import QUICK, Scale

OURS = [pair.name for pair in pairs_against("self", [])]


def test_names_are_unique_within_an_opponent():
    keys = [(pair.against, pair.name) for pair in PAIRS]
    assert len(set(keys)) == len(keys)
    assert {pair.against for pair in PAIRS} == set(OPPONENTS)


def test_pairs_are_chosen_by_name():
    assert [pair.name for pair in pairs_against("detrex", ["dino_r18_training"])] == [
        "dino_r18_training"
    ]
    with pytest.raises(ValueError, match="--only floor: against self there are .*dino_r50_floor"):
        pairs_against("self", ["floor"])


def peak_bytes_here(build: Callable, scale: Scale, *, with_building: bool) -> partial:
    """Runs in this process, which is faster; test_memory.py measures processes."""

    def run(pickled: bytes) -> float:
        pickle.loads(pickled)(scale)()
        return 1.0

    return partial(run, pickle.dumps(build))


@pytest.mark.parametrize("name", OURS)
def test_each_pair_runs(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(distillation, "peak_bytes", peak_bytes_here)
    file = tmp_path / "new folder/figures.json"
    arguments = ["--against", "self", "--only", name, "--quick", "--rounds", "1", "--warmup", "1"]
    run.main([*arguments, "--json", str(file)])
    content = json.loads(file.read_text())
    assert content["settings"] == {"rounds": 1, "warmup": 1, "quick": True}
    (row,) = content["pairs"]
    assert row["name"] == name and row["ratio"]["median"] > 0 and content["refused"] == {}
    for side in ("ours", "theirs"):
        for part in row[side]["parts"].values():
            assert len(part["rounds"]) == 1 and part["median"] > 0
    printed = capsys.readouterr().out
    assert f"measuring: {name}" in printed and row["target"] in printed


def test_a_refused_pair_is_named_and_others_are_measured(monkeypatch, tmp_path, capsys):
    def refuse(*_):
        raise Disagreement("AP: ours 1, theirs 2")

    monkeypatch.setattr(evaluation, "same_figures", refuse)
    file = tmp_path / "figures.json"
    names = ["coco_evaluation", "mini_distillation"]
    arguments = ["--against", "self", "--only", *names, "--quick", "--rounds", "1", "--warmup", "1"]
    with pytest.raises(SystemExit, match="1 of 2 pairs were refused"):
        run.main([*arguments, "--json", str(file)])
    content = json.loads(file.read_text())
    assert content["refused"] == {"coco_evaluation": "AP: ours 1, theirs 2"}
    assert [row["name"] for row in content["pairs"]] == ["mini_distillation"]
    assert "refused: AP: ours 1, theirs 2" in capsys.readouterr().out


def test_a_student_that_learns_something_else_is_refused():
    model = distillation._distiller(300, QUICK)
    batch = distillation._batch(model.student, QUICK)
    with pytest.raises(Disagreement, match="loss_"):
        distillation.same_student(model, batch, built(tree("dino", 18, QUICK)))
