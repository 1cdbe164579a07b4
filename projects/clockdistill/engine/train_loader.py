"""Training loader whose order of images a resumed run continues.

By hand: detectron2's sampler always starts at the first image.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from projects.clockdistill.engine.config_file import accepted_arguments


class ResumableSampler(TrainingSampler):
    """detectron2's endless shuffle, started at any position.

    Args:
        size: number of images.
        seed: of the shuffle, the same on every process.
        start: images that all processes together have drawn already.
    """

    def __init__(self, size: int, seed: int, start: int) -> None:
        super().__init__(size, seed=seed)
        self._start = start

    def __iter__(self) -> Iterator[int]:
        first = self._start + comm.get_rank()
        yield from itertools.islice(self._infinite_indices(), first, None, comm.get_world_size())


def build_train_loader(
    node: DictConfig, seed: int, start_iter: int
) -> Iterable[list[dict[str, Any]]]:
    """Builds `cfg.dataloader.train` so that its batches are those from `start_iter` on.

    The order of the images depends on the seed alone. A resumed run gets exactly the batches of an
    uninterrupted one if all images have one orientation (detectron2 batches wide and tall images
    separately) and the number of workers is 0 or divides the steps done; otherwise some images of
    that epoch come twice or not at all. A config's own sampler is kept and starts again.

    Args:
        node: a lazy call of a loader builder that takes `dataset` and `sampler`.
        seed: below 0, every run shuffles differently.
        start_iter: first step.
    """
    extra = {}
    if node.get("sampler") is None and "sampler" in (accepted_arguments(node) or ()):
        if seed < 0:
            seed = comm.shared_random_seed()
        dataset = instantiate(node.dataset)
        sampler = ResumableSampler(len(dataset), seed, start_iter * node.total_batch_size)
        extra = {"dataset": dataset, "sampler": sampler}
    loader = instantiate({**node, **extra})
    _seed_workers(loader)
    return loader


def _seed_workers(loader: Iterable[list[dict[str, Any]]]) -> None:
    """Derives the workers' seed from the process's seed, without a draw from its generator.

    PyTorch draws that seed when the loader is first read, which would advance the state that a
    resumed run has just restored by one draw.
    """
    while loader is not None and not isinstance(loader, DataLoader):
        # detectron2 wraps a loader to batch by orientation, and to collate
        loader = getattr(loader, "dataset", getattr(loader, "_dataset", None))
    if loader is not None:
        loader.generator = torch.Generator().manual_seed(torch.initial_seed())
