"""A bar on a terminal, plain lines elsewhere, figures in files always."""

import io
import json
import sys
from pathlib import Path

import pytest
from detectron2.engine import hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.utils.events import CommonMetricPrinter

from projects.clockdistill.engine.console import ProgressBar, writers


class _Counting(TrainerBase):
    def run_step(self) -> None:
        self.storage.put_scalars(total_loss=2.5, lr=1e-3)


def _run(registered: list, start: int, end: int) -> None:
    trainer = _Counting()
    trainer.register_hooks(registered)
    trainer.train(start, end)


def test_bar_shows_steps_loss_rate_and_time_to_go() -> None:
    stream = io.StringIO()
    _run([ProgressBar(period=2, stream=stream)], 4, 10)
    last = stream.getvalue().split("\r")[-1]
    assert "10/10" in last
    assert "loss=2.5" in last and "lr=0.001" in last
    assert "4/10" in stream.getvalue().split("\r")[1]  # a resumed run starts where it stopped
    assert "?" not in last.split("[")[1].split(",")[0]  # elapsed<to go


@pytest.mark.parametrize("terminal", [True, False])
def test_console_follows_the_terminal_and_files_are_written(
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
