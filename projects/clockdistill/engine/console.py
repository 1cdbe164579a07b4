"""What a run shows while it goes: a progress bar on a terminal, plain lines elsewhere."""

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from detectron2.engine import HookBase, hooks
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

# loggers that have a console handler of their own
_CONSOLE_LOGGERS = ("detectron2", "fvcore", "projects.clockdistill")


class ProgressBar(HookBase):
    """A bar with the time to go, the total loss and the learning rate; log lines go above it.

    Args:
        period: steps between two updates of the figures.
        stream: the terminal.
    """

    def __init__(self, period: int, stream: TextIO | None = None) -> None:
        self._period = period
        self._stream = stream or sys.stdout
        self._stack = ExitStack()

    def before_train(self) -> None:
        trainer = self.trainer
        self._bar = self._stack.enter_context(
            tqdm(
                total=trainer.max_iter,
                initial=trainer.start_iter,
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


def writers(output_dir: str, max_iter: int, log_period: int) -> list[HookBase]:
    """Return the hooks that write the run's figures: console, metrics.json, TensorBoard.

    Args:
        output_dir: folder of the run.
        max_iter: steps of the run.
        log_period: steps between two lines.
    """
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    files = [JSONWriter(str(Path(output_dir) / "metrics.json")), TensorboardXWriter(output_dir)]
    if sys.stdout.isatty():
        return [hooks.PeriodicWriter(files, log_period), ProgressBar(log_period)]
    return [hooks.PeriodicWriter([CommonMetricPrinter(max_iter), *files], log_period)]
