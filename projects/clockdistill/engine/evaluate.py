"""Evaluate a model on the config's test data."""

import logging
from pathlib import Path

from detectron2.config import instantiate
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.engine.call_arguments import accepted_arguments
from projects.clockdistill.engine.rng import preserved_rng
from projects.clockdistill.evaluation.report import format_table, write_results

logger = logging.getLogger(__name__)


class Evaluation:
    """The test data and what measures on it; built once, used as often as need be.

    Args:
        dataloader: cfg.dataloader, with ``test`` and ``evaluator``.
        output_dir: folder of the run, for results.json, results.md and the detections.
    """

    def __init__(self, dataloader: DictConfig, output_dir: str) -> None:
        self._output_dir = output_dir
        self.loader = instantiate(dataloader.test)
        node = dataloader.evaluator
        extra = {}
        if node.get("output_dir") is None and "output_dir" in (accepted_arguments(node) or ()):
            extra["output_dir"] = str(Path(output_dir) / "inference")
        self._evaluator = instantiate({**node, **extra})

    def __call__(self, model: nn.Module) -> dict:
        """Measure, show the table and write it; training goes on as if nothing had been drawn.

        Args:
            model: returns detections in eval mode; without its wrapper for several processes.

        Returns:
            {task: {metric: percent}} on the main process, nothing on the others.
        """
        with preserved_rng():
            results = inference_on_dataset(model, self.loader, self._evaluator)
        if comm.is_main_process():
            write_results(results, self._output_dir)
            for task, metrics in results.items():
                logger.info("%s:\n%s", task, format_table(metrics))
        return results or {}
