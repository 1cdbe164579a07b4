"""Hooks of the training loop: periodic checkpoints, progress bar and metric writers."""

import logging
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from projects.clockdistill.engine import metrics_file
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.config_file import ConfigError

# loggers that have a console handler of their own
_CONSOLE_LOGGERS = ("detectron2", "fvcore", "projects.clockdistill")


class PeriodicCheckpoint(HookBase):
    """Saves every `period` steps and at the end; removes the oldest beyond `max_to_keep`.

    It counts the files in the folder, so that a resumed run removes those of the run before it,
    which detectron2's own hook does not. A run that a signal ends saves after its last step; one
    that resumes at or beyond its end saves model_final.pth before its evaluation.

    Args:
        checkpointer: writes the files.
        period: in steps; 0 saves at the end only.
        max_to_keep: number of periodic checkpoints to keep, at least 1.
    """

    def __init__(self, checkpointer: DetectorCheckpointer, period: int, max_to_keep: int) -> None:
        if max_to_keep < 1:
            raise ConfigError(f"train.checkpointer.max_to_keep={max_to_keep} must be at least 1")
        self._checkpointer = checkpointer
        self._period = period
        self._max_to_keep = max_to_keep

    def before_train(self) -> None:
        done = self.trainer.start_iter
        if done < self.trainer.max_iter:
            return
        newest = comm.all_gather(Path(self._checkpointer.get_checkpoint_file()).name)[0]
        if newest != "model_final.pth":
            now, self.trainer.iter = self.trainer.iter, done - 1  # from which a checkpoint goes on
            self._checkpointer.save("model_final")
            self.trainer.iter = now

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter:
            self._checkpointer.save("model_final")
        elif self.trainer.interrupted or (self._period > 0 and done % self._period == 0):
            self._checkpointer.save(f"model_{self.trainer.iter:07d}")
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        if not comm.is_main_process():
            return
        folder = Path(self._checkpointer.save_dir)
        found = [p for p in folder.glob("model_*.pth") if re.fullmatch(r"model_\d{7}", p.stem)]
        # by time, not by number: an earlier run in this folder may have taken more steps
        found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        for path in found[: -self._max_to_keep]:
            path.unlink()


class ProgressBar(HookBase):
    """Bar with the remaining time, the total loss and the learning rate; logs appear above it.

    Args:
        period: steps between two updates of the figures.
        stream: the terminal.
    """

    def __init__(self, period: int, stream: TextIO | None = None) -> None:
        self._period = period
        self._stream = stream or sys.stdout
        self._stack = ExitStack()

    def before_train(self) -> None:
        self._bar = self._stack.enter_context(
            tqdm(
                total=self.trainer.max_iter,
                initial=self.trainer.start_iter,
                file=self._stream,
                dynamic_ncols=True,
                desc="train",
                unit="step",
            )
        )
        loggers = [logging.getLogger(name) for name in _CONSOLE_LOGGERS]
        self._stack.enter_context(logging_redirect_tqdm(loggers))

    def after_step(self) -> None:
        self._bar.update()
        if (self.trainer.iter + 1) % self._period == 0:
            storage = self.trainer.storage
            loss = storage.history("total_loss").median(self._period)
            self._bar.set_postfix(loss=f"{loss:.4g}", lr=f"{storage.history('lr').latest():.3g}")

    def after_train(self) -> None:
        self._stack.close()


class MetricWriters(hooks.PeriodicWriter):
    """Writes the metrics to metrics.json, TensorBoard and the console.

    A resumed run removes the lines that it repeats, and ends up with those of an uninterrupted one.

    Args:
        output_dir: folder of the run.
        max_iter: steps of the run.
        period: steps between two lines.
        console: whether the console gets a line, too.
        followers: writers that read metrics.json.
    """

    def __init__(
        self,
        output_dir: str,
        max_iter: int,
        period: int,
        *,
        console: bool,
        followers: Sequence[EventWriter] = (),
    ) -> None:
        super().__init__([CommonMetricPrinter(max_iter)] if console else [], period)
        self._output_dir = output_dir
        self._followers = followers

    def before_train(self) -> None:
        start_iter = self.trainer.start_iter
        json_file = Path(self._output_dir) / "metrics.json"
        lines = metrics_file.forget_from(json_file, start_iter)
        evaluated = self._evaluated_at(start_iter - 1)
        if lines and lines[-1]["iteration"] == start_iter - 1 and evaluated - lines[-1].keys():
            # a signal left out the evaluation of that step, which is repeated now
            lines = metrics_file.forget_from(json_file, start_iter - 1)
        json_writer = JSONWriter(str(json_file))
        json_writer._last_write = lines[-1]["iteration"] if lines else -1
        self._writers.append(json_writer)
        # TensorBoard hides what an interrupted run logged beyond its last checkpoint
        self._writers.append(TensorboardXWriter(self._output_dir, purge_step=start_iter or None))
        self._writers.extend(self._followers)  # behind metrics.json
        if start_iter > 0 and start_iter % self._period == 0:
            json_writer.write()  # what the interruption left unwritten

    def after_step(self) -> None:
        super().after_step()
        # with the next line it would come behind later steps, or be gone by then
        if self._evaluated_at(self.trainer.iter):
            self._write_files()

    def after_train(self) -> None:
        self._write_files()
        for writer in self._writers:
            writer.close()

    def _evaluated_at(self, iteration: int) -> set[str]:
        """Returns the names of the metrics that an evaluation measured at an iteration."""
        latest = self.trainer.storage.latest()
        return {name for name, (_, when) in latest.items() if when == iteration and "/" in name}

    def _write_files(self) -> None:
        for writer in self._writers:
            if not isinstance(writer, CommonMetricPrinter):  # which cannot show a step twice
                writer.write()


def writers(
    output_dir: str, max_iter: int, log_period: int, followers: Sequence[EventWriter] = ()
) -> list[HookBase]:
    """Returns the hooks that show and write the metrics.

    The console gets a progress bar if it is a terminal, otherwise one line per `log_period`.

    Args:
        output_dir: folder of the run.
        max_iter: steps of the run.
        log_period: steps between two lines.
        followers: further writers, which read metrics.json.
    """
    bar = sys.stdout.isatty()
    files = MetricWriters(output_dir, max_iter, log_period, console=not bar, followers=followers)
    return [files, ProgressBar(log_period)] if bar else [files]
