"""Evaluation on the config's test data, alone or as a hook of training."""

import errno
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.engine import interruption, metrics_file
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.checks import build
from projects.clockdistill.engine.config_file import ConfigError, named_arguments
from projects.clockdistill.engine.data_config import evaluator_calls
from projects.clockdistill.engine.rng import preserved_rng
from projects.clockdistill.evaluation.report import format_table, write_results

logger = logging.getLogger(__name__)


def build_evaluators(dataloader: DictConfig, output_dir: str | None) -> list[DatasetEvaluator]:
    """Builds the evaluators of a config.

    Args:
        dataloader: `cfg.dataloader`, with `evaluator`.
        output_dir: folder for files, where the config names no other; None writes no files.

    Raises:
        ConfigError: with an evaluator's key and its own message, if it refuses the data.
    """
    evaluators = []
    for key, call in evaluator_calls(dataloader).items():
        takes_folder = "output_dir" in named_arguments(call)
        keeps_own = output_dir is not None and call.get("output_dir") is not None
        extra = {"output_dir": output_dir} if takes_folder and not keeps_own else {}
        evaluators.append(build(call, key, **extra))
    return evaluators


class Evaluation:
    """Test data and evaluators, built once and used for every evaluation of a run.

    Args:
        dataloader: `cfg.dataloader`, with `test` and `evaluator`.
        output_dir: folder of the run, for results.json, results.md and the detections.

    Raises:
        ConfigError: with an evaluator's own message, if it refuses the data.
    """

    def __init__(self, dataloader: DictConfig, output_dir: str) -> None:
        self._output_dir = output_dir
        self.loader = build(dataloader.test, "dataloader.test")
        interruption.shield_workers(self.loader)
        self._evaluators = build_evaluators(dataloader, str(Path(output_dir) / "inference"))

    def __call__(self, model: nn.Module) -> dict:
        """Evaluates a model, logs the table and writes it; no random generator changes.

        Args:
            model: returns detections in eval mode; not wrapped for several processes.

        Returns:
            {task: {metric: percent}} on the main process, {} on the others.
        """
        if comm.get_world_size() > 1:
            # each process has running statistics of its own; the main process's are saved
            saved = model.state_dict().keys()
            for name, buffer in model.named_buffers():
                if name in saved:
                    dist.broadcast(buffer, 0)
        with preserved_rng():
            results = inference_on_dataset(model, _Interruptible(self.loader), self._evaluators)
        if comm.is_main_process():
            write_results(results, self._output_dir)
            for task, metrics in results.items():
                logger.info("%s:\n%s", task, format_table(metrics, task))
        return results or {}


class _Interruptible:
    """A loader that a signal ends between two images, in a run of one process.

    Several processes would have to agree, which they do after the next step.
    """

    def __init__(self, loader: Iterable) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            if comm.get_world_size() == 1:
                interruption.check()
            yield batch


class Evaluate(HookBase):
    """Evaluates every `period` steps and at the end, keeps the best weights, and stops early.

    A run that was interrupted in an evaluation repeats it when it is resumed. Early stopping lowers
    `trainer.max_iter` to the steps that were done and saves model_final.pth there. The evaluations
    without a new best are counted from model_best.json, so they survive every end of a run.

    Args:
        evaluate: returns results as {task: {metric: value}} on the main process.
        checkpointer: writes model_best.pth.
        period: in steps; 0 evaluates at the end only.
        best_metric: such as "bbox/AP"; the weights with its highest value are kept.
        patience: the run ends after so many evaluations in a row without a new best; 0 never ends
            it. Needs a `period`.

    Raises:
        ConfigError: in every process, if there is a patience and `best_metric` was not measured.
    """

    def __init__(
        self,
        evaluate: Callable[[], dict[str, dict[str, float]]],
        checkpointer: DetectorCheckpointer,
        period: int,
        best_metric: str,
        patience: int = 0,
    ) -> None:
        self._evaluate = evaluate
        self._checkpointer = checkpointer
        self._period = period
        self._best_metric = best_metric
        self._record = Path(checkpointer.save_dir) / "model_best.json"
        self._patience = patience
        self._best = -math.inf
        self._best_steps = 0
        self._measured: list[str] = []  # names of the last evaluation's metrics

    def before_train(self) -> None:
        start = self._best_steps = self.trainer.start_iter
        # in a file of its own, since a run may die between an evaluation and the next checkpoint
        if start > 0 and self._record.is_file():
            kept = json.loads(self._record.read_text())
            if kept["metric"] == self._best_metric:
                self._best, self._best_steps = kept["value"], kept["steps"]
        if start > 0 and self._is_due(start):
            # the main process decides, which writes what tells it
            logged = comm.all_gather(self._is_logged(start))[0]
            if logged:
                self._stop_early(start)
            if start >= self.trainer.max_iter or not logged:
                self._measure(start)
                self._stop_early(start)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if not self._is_due(done):
            return
        if self.trainer.interrupted and done < self.trainer.max_iter:
            return  # there is a checkpoint: the resumed run evaluates
        try:
            self._measure(done)
        except interruption.Interrupted:
            if done < self.trainer.max_iter:
                self._checkpointer.save(f"model_{self.trainer.iter:07d}")
            raise
        self._stop_early(done)

    def _is_due(self, done: int) -> bool:
        return done >= self.trainer.max_iter or (self._period > 0 and done % self._period == 0)

    def _is_logged(self, done: int) -> bool:
        lines = metrics_file.read(Path(self._checkpointer.save_dir) / "metrics.json")
        return any(x["iteration"] == done - 1 and self._best_metric in x for x in lines)

    def _measure(self, done: int) -> None:
        """Evaluates the weights after `done` steps."""
        folder = Path(self._checkpointer.save_dir)
        if not folder.is_dir():  # the evaluator would create it again, without the checkpoints
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(folder))
        results = self._evaluate()
        comm.synchronize()  # the other ranks wait for the main process
        if not comm.is_main_process():
            return
        flat = {
            f"{task}/{metric}": value
            for task, metrics in results.items()
            for metric, value in metrics.items()
        }
        storage = self.trainer.storage
        now, storage.iter = storage.iter, done - 1
        for name, value in flat.items():
            if math.isfinite(value):  # a class without objects has no AP
                storage.put_scalar(name, value, smoothing_hint=False)
        storage.iter = now
        self._measured = list(flat)
        self._keep_best(flat, done)

    def _stop_early(self, done: int) -> None:
        """Ends the run after the evaluation of `done` steps if the best lies too far back."""
        if not self._patience or done >= self.trainer.max_iter:
            return
        # each evaluation since the best was due at a multiple of the period
        waited = done // self._period - self._best_steps // self._period
        measured = "" if self._best_metric in self._measured else ", ".join(self._measured)
        waited, measured = comm.all_gather((waited, measured))[0]  # the main process has results
        if not measured and waited < self._patience:
            return
        now, self.trainer.iter = self.trainer.iter, done - 1  # from which a checkpoint goes on
        self._checkpointer.save(f"model_{done - 1:07d}" if measured else "model_final")
        self.trainer.iter = now
        if measured:
            raise ConfigError(
                f"train.early_stopping={self._patience} waits for train.best_metric="
                f"{self._best_metric}, which was not measured; measured: {measured}.\n"
                "Fix: run the same command with --resume and one of these as train.best_metric"
            )
        if comm.is_main_process():
            logger.info(
                "train.early_stopping=%d: the run ended after %d of %d steps, %d evaluations after "
                "the best: %s = %.3f after %d steps (model_best.pth). To go on, use --resume with "
                "train.early_stopping=0 or a number above %d",
                *(self._patience, done, self.trainer.max_iter, waited),
                *(self._best_metric, self._best, self._best_steps, waited),
            )
        self.trainer.max_iter = done

    def _keep_best(self, results: dict[str, float], done: int) -> None:
        if self._best_metric not in results:
            logger.warning(
                "train.best_metric=%s was not measured, so there is no model_best.pth; measured: "
                "%s",
                self._best_metric,
                ", ".join(results),
            )
            return
        value = results[self._best_metric]
        if not value > self._best:
            return
        self._best, self._best_steps = value, done
        self._checkpointer.save_weights("model_best", iteration=done - 1)
        with atomic_write(self._record, "w") as handle:
            json.dump({"metric": self._best_metric, "value": value, "steps": done}, handle)
        logger.info("best so far: %s = %.3f after %d steps", self._best_metric, value, done)
