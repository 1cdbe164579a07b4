"""Tests how a model is wrapped for several processes: two of them, which talk over gloo."""

import os
import warnings
from datetime import timedelta
from pathlib import Path

import torch
from detectron2.config import LazyConfig
from torch import Tensor, distributed, multiprocessing, nn

from projects.clockdistill.engine.config_file import CONFIGS
from projects.clockdistill.engine.setup import distribute
from tests.analysis.tiny_distiller import tiny_distiller
from tests.modeling.tiny_detectors import FAMILIES, batch

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
    torch.set_num_threads(1)
    minutes = timedelta(minutes=3)  # a process that waits in vain fails instead of hanging
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=minutes
    )
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
    distributed.destroy_process_group()


def test_wrapping_warns_of_nothing_and_changes_no_gradient(tmp_path: Path) -> None:
    """Every kind of query, and processes without objects, with all that `train.ddp` switches on."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert (tmp_path / f"warnings{rank}.txt").read_text() == ""
