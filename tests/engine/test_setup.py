"""Tests how a model is wrapped for several processes: two of them, which talk over gloo."""

import warnings
from pathlib import Path

import torch
from detectron2.config import LazyConfig
from torch import Tensor, nn

from projects.clockdistill.engine.config_file import CONFIGS
from projects.clockdistill.engine.setup import distribute
from tests.analysis.tiny_distiller import tiny_distiller
from tests.modeling.tiny_detectors import FAMILIES, batch
from tests.two_processes import process_group, spawn

# objects in the two images of either process: of one process alone, of none
OBJECTS = [((2, 1), (0, 0)), ((0, 0), (0, 0))]


def steps(model: nn.Module, rank: int) -> list[dict[str, Tensor]]:
    """Losses and gradients of steps without an update."""
    results = []
    torch.manual_seed(rank)
    for counts in OBJECTS:
        model.zero_grad()
        losses = model(batch(counts[rank], seed=rank))
        sum(losses.values()).backward()
        gradients = {
            name: parameter.grad.clone()
            for name, parameter in model.module.named_parameters()
            if parameter.requires_grad
        }
        results.append({**losses, **gradients})
    return results


def process(rank: int, folder: str) -> None:
    with process_group(rank, folder):
        options = LazyConfig.load(str(CONFIGS / "common" / "train.py")).train.ddp
        shown = []
        for family in FAMILIES:
            results = []
            for chosen in (options, {}):
                torch.manual_seed(0)
                model = tiny_distiller(family, ("fitnet", "fgd", "mgd") if family == "dino" else ())
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    results.append(steps(distribute(model, chosen), rank))
                shown += [str(warning.message) for warning in caught]
            for one, plain in zip(*results, strict=True):
                torch.testing.assert_close(one, plain, rtol=0, atol=0)
        Path(folder, f"warnings{rank}.txt").write_text("\n".join(shown))


def test_wrapping_warns_of_nothing_and_changes_no_gradient(tmp_path: Path) -> None:
    """Every kind of query, and processes without objects, with all that `train.ddp` switches on."""
    spawn(process, tmp_path)
    for rank in range(2):
        assert (tmp_path / f"warnings{rank}.txt").read_text() == ""
