"""Hooks of the training loop that detectron2 does not have, or not so that a run can resume."""

import json
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer

logger = logging.getLogger(__name__)


class PeriodicCheckpoint(HookBase):
    """Saves every ``period`` steps and at the end; removes the oldest beyond ``max_to_keep``.

    What counts is what stands in the folder, so a resumed run goes on removing.

    Args:
        checkpointer: writes the files.
        period: in steps; 0 saves at the end only.
        max_to_keep: periodic checkpoints that stay, at least 1.
    """

    def __init__(self, checkpointer: DetectorCheckpointer, period: int, max_to_keep: int) -> None:
        if max_to_keep < 1:
            raise ValueError(f"train.checkpointer.max_to_keep must be at least 1: {max_to_keep}")
        self._checkpointer = checkpointer
        self._period = period
        self._max_to_keep = max_to_keep

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter:
            self._checkpointer.save("model_final")
        elif self._period > 0 and done % self._period == 0:
            self._checkpointer.save(f"model_{self.trainer.iter:07d}")
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        if not comm.is_main_process():
            return
        folder = Path(self._checkpointer.save_dir)
        found = [p for p in folder.glob("model_*.pth") if re.fullmatch(r"model_\d{7}", p.stem)]
        # an earlier run in this folder may have gone further: age is by time, not by number
        found.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
        for path in found[: -self._max_to_keep]:
            path.unlink()


class Evaluate(HookBase):
    """Evaluates every ``period`` steps and at the end, and keeps the best weights.

    Args:
        evaluate: returns results as {task: {metric: value}} on the main process.
        checkpointer: writes ``model_best.pth``.
        period: in steps; 0 evaluates at the end only.
        best_metric: e.g. "bbox/AP"; the highest is kept.
    """

    def __init__(
        self,
        evaluate: Callable[[], dict[str, dict[str, float]]],
        checkpointer: DetectorCheckpointer,
        period: int,
        best_metric: str,
    ) -> None:
        self._evaluate = evaluate
        self._checkpointer = checkpointer
        self._period = period
        self._best_metric = best_metric
        self._record = Path(checkpointer.save_dir) / "model_best.json"
        self._best = -math.inf

    def before_train(self) -> None:
        # beside the weights, not in the checkpoint: a run may die between evaluating and saving
        if self.trainer.start_iter > 0 and self._record.is_file():
            kept = json.loads(self._record.read_text())
            if kept["metric"] == self._best_metric:
                self._best = kept["value"]

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if (self._period > 0 and done % self._period == 0) or done == self.trainer.max_iter:
            self._run(done)

    def _run(self, done: int) -> None:
        results = self._evaluate()
        comm.synchronize()  # the other ranks wait for the one that measures
        if not comm.is_main_process():
            return
        flat = flatten(results)
        for name, value in flat.items():
            if math.isfinite(value):  # a class without objects has no AP
                self.trainer.storage.put_scalar(name, value, smoothing_hint=False)
        self._keep_best(flat, done)

    def _keep_best(self, results: dict[str, float], done: int) -> None:
        if self._best_metric not in results:
            logger.warning(
                "train.best_metric=%s was not measured, so no model_best.pth; there are: %s",
                self._best_metric,
                ", ".join(results),
            )
            return
        value = results[self._best_metric]
        if not value > self._best:
            return
        self._best = value
        self._checkpointer.save_weights("model_best", iteration=done - 1)
        record: dict[str, Any] = {"metric": self._best_metric, "value": value, "steps": done}
        with atomic_write(self._record, "w") as handle:
            json.dump(record, handle)
        logger.info("best so far: %s = %.3f after %d steps", self._best_metric, value, done)


def flatten(results: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return {"task/metric": value} of {task: {metric: value}}."""
    return {
        f"{task}/{metric}": value
        for task, metrics in results.items()
        for metric, value in metrics.items()
    }
