"""Two processes evaluate one model."""

from pathlib import Path

import torch
from torch import nn

from projects.clockdistill.engine import evaluate
from projects.clockdistill.engine.evaluate import Evaluation
from tests.two_processes import process_group, spawn


def evaluated(rank: int, folder: str) -> None:
    """Keeps the running mean that each process evaluates with."""
    with process_group(rank, folder, minutes=1):
        model = nn.BatchNorm1d(2)
        model.running_mean += rank + 1
        evaluation = Evaluation.__new__(Evaluation)
        evaluation._output_dir, evaluation.loader, evaluation._evaluators = folder, (), []
        evaluate.write_results = lambda *_: None
        evaluate.inference_on_dataset = lambda *_: {}
        evaluation(model)
        torch.save(model.running_mean, Path(folder, f"rank{rank}.pth"))


def test_all_processes_have_the_statistics_that_are_saved(tmp_path):
    spawn(evaluated, tmp_path)
    for rank in range(2):
        assert torch.load(tmp_path / f"rank{rank}.pth").tolist() == [1, 1]
