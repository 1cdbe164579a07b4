"""Tests the hooks: periodic and best checkpoints, progress bar, metric files."""

import io
import json
import sys
from pathlib import Path

import pytest
import torch
from detectron2.engine import hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils.events import CommonMetricPrinter
from torch import nn

from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.engine.evaluate import Evaluate
from projects.clockdistill.engine.hooks import PeriodicCheckpoint, ProgressBar, writers


class _Idle(TrainerBase):
    """A loop that trains nothing."""

    interrupted = 0

    def run_step(self) -> None:
        self.storage.put_scalars(total_loss=2.5, lr=1e-3)


@pytest.fixture
def checkpointer(tmp_path: Path) -> DetectorCheckpointer:
    return DetectorCheckpointer(nn.Linear(1, 1), str(tmp_path))


def _run(registered: list, start: int, end: int) -> TrainerBase:
    trainer = _Idle()
    trainer.register_hooks(registered)
    trainer.train(start, end)
    return trainer


def _weights(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.pth")}


def test_newest_are_kept_also_over_a_resume(
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
    with pytest.raises(ConfigError, match=r"train\.checkpointer\.max_to_keep"):
        PeriodicCheckpoint(checkpointer, period=0, max_to_keep=0)
    _run([PeriodicCheckpoint(checkpointer, period=0, max_to_keep=1)], 0, 3)
    assert _weights(tmp_path) == {"model_final.pth"}


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
    _log(tmp_path, 6)
    _run([_evaluate(checkpointer, [25.0])], 6, 8)
    assert _best(tmp_path) == (4, 30.0)
    _log(tmp_path, 8)
    _run([_evaluate(checkpointer, [35.0])], 8, 10)
    assert _best(tmp_path) == (10, 35.0)


def _log(folder: Path, done: int) -> None:
    line = {"iteration": done - 1, "bbox/AP": 1.0}
    (folder / "metrics.json").write_text(json.dumps(line) + "\n")


def test_evaluation_that_a_kill_interrupted_is_repeated(
    checkpointer: DetectorCheckpointer, tmp_path: Path
) -> None:
    _log(tmp_path, 4)
    # the checkpoint of step 6 was written; what follows step 6 is the evaluation after step 7
    trainer = _run([_evaluate(checkpointer, [7.0, 2.0])], 6, 7)
    assert _best(tmp_path) == (6, 7.0)
    assert trainer.storage.history("bbox/AP").values() == [(7.0, 5), (2.0, 6)]


def test_resumed_run_completes_metrics_json(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        _run(writers(str(folder), max_iter=8, log_period=2), 0, 8)
    lines = (cut / "metrics.json").read_text()
    (cut / "metrics.json").write_text(lines[:-9])  # killed while it wrote the last line
    _run(writers(str(cut), max_iter=8, log_period=2), 4, 8)
    assert (cut / "metrics.json").read_text() == (whole / "metrics.json").read_text()


@pytest.mark.parametrize(("period", "log_period"), [(3, 4), (2, 8)])
def test_evaluations_between_two_lines_are_kept_also_over_a_resume(
    checkpointer: DetectorCheckpointer, tmp_path: Path, period: int, log_period: int
) -> None:
    def lines(start: int, end: int) -> dict[int, dict]:
        count = end // period - start // period
        evaluate = Evaluate(
            lambda: {"bbox": {"AP": 1.0}}, checkpointer, period=period, best_metric="bbox/AP"
        )
        _run([evaluate, *writers(str(tmp_path), max_iter=12, log_period=log_period)], start, end)
        assert count
        found = [json.loads(text) for text in (tmp_path / "metrics.json").read_text().splitlines()]
        assert [line["iteration"] for line in found] == sorted({x["iteration"] for x in found})
        return {line["iteration"]: line for line in found}

    lines(0, 8)  # and killed after a checkpoint of step 2 * period, whose evaluation is written
    found = lines(2 * period, 12)
    evaluated = [iteration for iteration, line in found.items() if "bbox/AP" in line]
    assert set(range(period - 1, 12, period)) <= set(evaluated)
    assert all("total_loss" in line for line in found.values())


def test_run_that_resumes_at_its_end_is_finished(
    checkpointer: DetectorCheckpointer, tmp_path: Path
) -> None:
    _run([PeriodicCheckpoint(checkpointer, period=2, max_to_keep=2)], 0, 6)
    (tmp_path / "model_final.pth").unlink()
    checkpointer.tag_last_checkpoint("model_0000003.pth")
    for end in (4, 3):
        _run([PeriodicCheckpoint(checkpointer, period=2, max_to_keep=2)], 4, end)
        assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_new_run_in_the_same_folder_forgets_the_old_best(
    checkpointer: DetectorCheckpointer, tmp_path: Path
) -> None:
    _run([_evaluate(checkpointer, [30.0])], 0, 2)
    _run([_evaluate(checkpointer, [5.0])], 0, 2)
    assert _best(tmp_path) == (2, 5.0)


def test_the_end_is_evaluated_once(checkpointer: DetectorCheckpointer) -> None:
    values = [1.0, 2.0, 3.0]
    _run([_evaluate(checkpointer, values)], 0, 5)  # after steps 2, 4 and 5
    with pytest.raises(StopIteration):
        _run([_evaluate(checkpointer, values[:1])], 0, 4)  # after steps 2 and 4


def test_metric_that_was_not_measured_keeps_no_best(
    checkpointer: DetectorCheckpointer, tmp_path: Path
) -> None:
    _run([Evaluate(lambda: {"bbox": {"AP": 1.0}}, checkpointer, 0, "segm/AP")], 0, 1)
    assert not (tmp_path / "model_best.pth").exists()


def test_bar_shows_steps_loss_rate_and_remaining_time() -> None:
    stream = io.StringIO()
    _run([ProgressBar(period=2, stream=stream)], 4, 10)
    last = stream.getvalue().split("\r")[-1]
    assert "10/10" in last
    assert "loss=2.5" in last and "lr=0.001" in last
    assert "4/10" in stream.getvalue().split("\r")[1]  # a resumed run starts where it stopped
    assert "?" not in last.split("[")[1].split(",")[0]  # elapsed<remaining


@pytest.mark.parametrize("terminal", [True, False])
def test_console_depends_on_the_terminal_and_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    registered = writers(str(tmp_path), max_iter=4, log_period=2)
    assert any(isinstance(hook, ProgressBar) for hook in registered) == terminal
    printers = [w for h in registered if isinstance(h, hooks.PeriodicWriter) for w in h._writers]
    assert any(isinstance(w, CommonMetricPrinter) for w in printers) == (not terminal)
    _run(registered, 0, 4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 3]
    assert lines[0]["total_loss"] == 2.5
    assert list(tmp_path.glob("events.out.tfevents.*"))
