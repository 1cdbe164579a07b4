"""Tests that a run ends when its best metric no longer rises, in whatever pieces it runs."""

import json
import logging
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from projects.clockdistill.engine import evaluate
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.checks import check_config
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.evaluate import Evaluate
from projects.clockdistill.engine.hooks import PeriodicCheckpoint, writers
from projects.clockdistill.engine.trainer import Trainer
from tests.fuzzing import fuzz
from tests.tiny_run import PLAIN
from tests.two_processes import process_group, spawn

PERIOD, STEPS = 2, 14


class _Killed(Exception):
    """The end of a process."""


class _Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, batch: list) -> dict[str, torch.Tensor]:
        return {"loss": self.weight + 1.0}


def _run(
    folder: Path,
    values: list[float],
    patience: int,
    *,
    ends: tuple[int, bool] | None = None,
    metric: str = "bbox/AP",
    saves_every: int = 3,
) -> int:
    """Runs, or resumes, and returns the steps after which it is done.

    Args:
        folder: of the run.
        values: the metric after 2, 4, ... steps.
        patience: of early stopping.
        ends: a kill after so many steps; whether this step's evaluation still takes place.
        metric: train.best_metric.
        saves_every: period of checkpoints.
    """
    model = _Constant()
    trainer = Trainer(model, lambda start: [[{}]] * 99, torch.optim.SGD(model.parameters(), lr=0.0))
    checkpointer = DetectorCheckpointer(model, str(folder), trainer=trainer)
    start = trainer.iter + 1 if checkpointer.resume() else 0

    def measure() -> dict:
        done = start if trainer.iter == start and not stepped else trainer.iter + 1
        if ends == (done, False):
            raise _Killed
        return {"bbox": {"AP": values[done // PERIOD - 1]}} if comm.is_main_process() else {}

    stepped: list[int] = []
    run_step = trainer.run_step

    def step() -> None:
        stepped.append(trainer.iter)
        if ends == (trainer.iter, True):
            raise _Killed
        run_step()

    trainer.run_step = step
    hooks = [
        PeriodicCheckpoint(checkpointer, saves_every, 2),
        Evaluate(measure, checkpointer, PERIOD, metric, patience),
        *(writers(str(folder), STEPS, 1) if comm.is_main_process() else ()),
    ]
    trainer.register_hooks(hooks)
    trainer.train(start, STEPS)
    return trainer.iter


def _evaluated(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [(line["iteration"] + 1, line["bbox/AP"]) for line in lines if "bbox/AP" in line]


def _expected_end(values: list[float], patience: int) -> int:
    """The definition, by comparison of all values with all before them."""
    for index in range(patience, len(values)):
        before, waited = values[: index + 1 - patience], values[index + 1 - patience : index + 1]
        if max(waited) <= max(before):
            return (index + 1) * PERIOD
    return STEPS


@fuzz(8)
@given(
    values=st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0]), min_size=7, max_size=7),
    patience=st.integers(1, 3),
    kills=st.lists(st.tuples(st.integers(1, STEPS), st.booleans()), max_size=2),
    saves_every=st.integers(1, 5),
)
def test_run_in_pieces_ends_where_the_definition_says(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[float],
    patience: int,
    kills: list[tuple[int, bool]],
    saves_every: int,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    end = _expected_end(values, patience)
    for kill in kills:
        with suppress(_Killed):
            _run(folder, values, patience, ends=kill, saves_every=saves_every)
    assert _run(folder, values, patience, saves_every=saves_every) == end
    assert _evaluated(folder) == [(n, values[n // 2 - 1]) for n in range(2, end + 1, 2)]
    final = torch.load(folder / "model_final.pth", weights_only=True)
    assert final["trainer"]["iteration"] == end - 1
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "early_stopping" in message]


def test_ended_run_says_so_evaluates_and_goes_on_with_more_patience(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = [1.0, 3.0, 2.0, 3.0, 2.0, 2.0, 4.0]
    with caplog.at_level(logging.INFO, logger=evaluate.__name__):
        assert _run(tmp_path, values, 2) == 8
        (first,) = _said(caplog)
        # 3.0 after 8 steps is not better than 3.0 after 4
        assert "train.early_stopping=2: the run ended after 8 of 14 steps" in first
        assert "bbox/AP = 3.000 after 4 steps" in first and "a number above 2" in first
        assert _run(tmp_path, values, 2) == 8
        assert _said(caplog) == [first, first]
    assert _evaluated(tmp_path) == [(2, 1.0), (4, 3.0), (6, 2.0), (8, 3.0)]
    assert _run(tmp_path, values, 4) == 12
    assert _run(tmp_path, values, 0) == STEPS
    assert _evaluated(tmp_path)[-1] == (STEPS, 4.0)


def test_another_best_metric_starts_to_wait_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="segm/AP, which was not measured; measured: bbox/AP"):
        _run(tmp_path, [5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0], 2, metric="segm/AP", saves_every=0)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"  # nothing is lost
    # the first value that can be kept as the best is that after 4 steps
    assert _run(tmp_path, [5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0], 2) == 8


def _in_two_processes(rank: int, folder: str) -> None:
    with process_group(rank, folder):
        assert _run(Path(folder), [1.0, 2.0, 2.0, 1.0, 3.0, 3.0, 3.0], 2) == 8


def test_all_processes_stop_together(tmp_path: Path) -> None:
    spawn(_in_two_processes, tmp_path)


def test_patience_without_evaluations_is_refused() -> None:
    overrides = ["train.early_stopping=3", "train.eval_period=0", "train.device=cpu"]
    with pytest.raises(ConfigError, match="early_stopping=3 .*eval_period=0 .*\nFix: set"):
        check_config(load_config(PLAIN, overrides))
