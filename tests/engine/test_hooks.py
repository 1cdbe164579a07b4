"""Periodic and best checkpoints, also over a resumed run."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.engine.train_loop import TrainerBase

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.hooks import Evaluate, PeriodicCheckpoint
from tests.fakes import FakeCriterion, FakeDetector


class _Idle(TrainerBase):
    """A loop that does nothing but count."""

    def run_step(self) -> None:
        pass


@pytest.fixture
def checkpointer(tmp_path: Path) -> DetectorCheckpointer:
    model = FakeDetector(num_classes=2, criterion=FakeCriterion(2))
    return DetectorCheckpointer(model, str(tmp_path))


def _run(hooks: list, start: int, end: int) -> TrainerBase:
    trainer = _Idle()
    trainer.register_hooks(hooks)
    trainer.train(start, end)
    return trainer


def _weights(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.pth")}


def test_newest_stay_and_a_resumed_run_goes_on_removing(
    checkpointer: DetectorCheckpointer, tmp_path: Path
) -> None:
    _run([PeriodicCheckpoint(checkpointer, period=2, max_to_keep=2)], 0, 7)
    assert _weights(tmp_path) == {"model_0000003.pth", "model_0000005.pth", "model_final.pth"}
    _run([PeriodicCheckpoint(checkpointer, period=2, max_to_keep=2)], 7, 11)
    assert _weights(tmp_path) == {"model_0000007.pth", "model_0000009.pth", "model_final.pth"}
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_period_of_zero_saves_at_the_end_only(
    checkpointer: DetectorCheckpointer, tmp_path: Path
) -> None:
    _run([PeriodicCheckpoint(checkpointer, period=0, max_to_keep=1)], 0, 3)
    assert _weights(tmp_path) == {"model_final.pth"}


def test_keeping_none_is_refused(checkpointer: DetectorCheckpointer) -> None:
    with pytest.raises(ValueError, match=r"train\.checkpointer\.max_to_keep"):
        PeriodicCheckpoint(checkpointer, period=1, max_to_keep=0)


def _evaluate(checkpointer: DetectorCheckpointer, values: list[float]) -> Evaluate:
    results = iter(values)

    def measure() -> dict:
        return {"bbox": {"AP": next(results), "AP-red": float("nan")}}

    return Evaluate(measure, checkpointer, period=2, best_metric="bbox/AP")


def _best(folder: Path) -> tuple[int, float]:
    record = json.loads((folder / "model_best.json").read_text())
    saved = torch.load(folder / "model_best.pth", weights_only=True)
    assert saved["iteration"] == record["steps"] - 1
    return record["steps"], record["value"]


def test_best_is_kept_also_over_a_resume(
    checkpointer: DetectorCheckpointer, tmp_path: Path
) -> None:
    trainer = _run([_evaluate(checkpointer, [10.0, 30.0, 20.0])], 0, 6)
    assert _best(tmp_path) == (4, 30.0)
    assert trainer.storage.latest()["bbox/AP"] == (20.0, 5)
    assert "bbox/AP-red" not in trainer.storage.latest()  # no number, nothing to draw
    _run([_evaluate(checkpointer, [25.0])], 6, 8)
    assert _best(tmp_path) == (4, 30.0)
    _run([_evaluate(checkpointer, [35.0])], 8, 10)
    assert _best(tmp_path) == (10, 35.0)


def test_new_run_in_the_same_folder_forgets_the_old_best(
    checkpointer: DetectorCheckpointer, tmp_path: Path
) -> None:
    _run([_evaluate(checkpointer, [30.0])], 0, 2)
    _run([_evaluate(checkpointer, [5.0])], 0, 2)
    assert _best(tmp_path) == (2, 5.0)


def test_end_is_evaluated_once(checkpointer: DetectorCheckpointer) -> None:
    values = [1.0, 2.0, 3.0]
    _run([_evaluate(checkpointer, values)], 0, 5)  # after steps 2, 4 and 5
    with pytest.raises(StopIteration):
        _run([_evaluate(checkpointer, values[:1])], 0, 4)  # after steps 2 and 4


def test_metric_that_was_not_measured_keeps_no_best(
    checkpointer: DetectorCheckpointer, tmp_path: Path
) -> None:
    _run([Evaluate(lambda: {"bbox": {"AP": 1.0}}, checkpointer, 0, "segm/AP")], 0, 1)
    assert not (tmp_path / "model_best.pth").exists()
