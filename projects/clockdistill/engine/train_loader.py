"""Training loader whose batches depend on seed and step alone, so that a resumed run repeats them.

By hand: detectron2's sampler always starts at the first image, and its augmentation draws depend on
the worker that happens to read an image.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetFromList
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from omegaconf import DictConfig
from torch.utils.data import DataLoader, Dataset

from projects.clockdistill.engine import interruption
from projects.clockdistill.engine.checks import build
from projects.clockdistill.engine.config_file import accepted_arguments


class ResumableSampler(TrainingSampler):
    """detectron2's endless shuffle, started at any batch.

    Yields epoch * size + index of an image, which `SeededImages` takes. Every process has its own
    share, as in detectron2.

    Args:
        size: number of images.
        seed: of the shuffle, the same on every process.
        batch_size: of one process.
        start_iter: batches that every process has taken already.
        is_wide: for every image, whether it is wider than tall; batches then hold images of one
            orientation. None: any images.
        num_workers: that build whole batches. Each draws every `num_workers`-th number, so that
            their batches are interleaved here. 1 if batches are built behind the workers.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        batch_size: int,
        start_iter: int = 0,
        *,
        is_wide: Sequence[bool] | None = None,
        num_workers: int = 1,
    ) -> None:
        super().__init__(size, seed=seed)
        self._batch_size = batch_size
        self._start_iter = start_iter
        self._is_wide = is_wide
        self._num_workers = num_workers

    def __iter__(self) -> Iterator[int]:
        batches = itertools.islice(self._batches(), self._start_iter, None)
        while True:
            together = list(itertools.islice(batches, self._num_workers))
            yield from itertools.chain.from_iterable(zip(*together, strict=True))

    def _batches(self) -> Iterator[list[int]]:
        """Yields the batches of this process from the first step on."""
        groups: dict[bool, list[int]] = {True: [], False: []}
        shuffled = enumerate(self._infinite_indices())
        for position, index in itertools.islice(shuffled, self._rank, None, self._world_size):
            group = groups[True if self._is_wide is None else bool(self._is_wide[index])]
            group.append(position // self._size * self._size + index)
            if len(group) == self._batch_size:
                yield group[:]
                group.clear()


class SeededImages(Dataset):
    """Maps images with random draws that depend on seed, epoch and image alone.

    An image that the mapper leaves out, by returning None, is replaced by the next one.

    Args:
        dataset: detectron2's standard dicts.
        mapper: may draw from the CPU generators of NumPy, torch and Python.
        seed: the same on every process.
    """

    def __init__(self, dataset: Sequence[dict], mapper: Callable[[dict], dict | None], seed: int):
        self._dataset = dataset
        self._mapper = mapper
        self._seed = seed

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, number: int) -> dict:
        """Maps the image that `ResumableSampler` numbers so."""
        epoch, first = divmod(int(number), len(self))
        for offset in range(len(self)):
            index = (first + offset) % len(self)
            with _seeded(self._seed, epoch, index):
                mapped = self._mapper(self._dataset[index])
            if mapped is not None:
                return mapped
        raise ValueError(f"none of the {len(self)} training images can be read")


@contextmanager
def _seeded(*entropy: int) -> Iterator[None]:
    """Seeds the CPU generators for the block and restores them; GPUs have no part in it."""
    states = np.random.get_state(), torch.get_rng_state(), random.getstate()
    for_numpy, for_torch, for_python = np.random.SeedSequence(entropy).generate_state(3).tolist()
    np.random.seed(for_numpy)
    torch.default_generator.manual_seed(for_torch)
    random.seed(for_python)
    try:
        yield
    finally:
        np.random.set_state(states[0])
        torch.set_rng_state(states[1])
        random.setstate(states[2])


def build_train_loader(
    node: DictConfig, seed: int, start_iter: int
) -> Iterable[list[dict[str, Any]]]:
    """Builds `cfg.dataloader.train` so that its batches are those from `start_iter` on.

    A resumed run gets exactly the batches of an uninterrupted one, whatever the number of workers.
    A config's own sampler is kept and starts again.

    Args:
        node: a lazy call of `build_detection_train_loader`, or of a builder with its arguments.
        seed: below 0, every run shuffles and augments differently.
        start_iter: first step.
    """
    extra = {}
    needed = {"dataset", "mapper", "sampler", "total_batch_size"}
    if node.get("sampler") is None and needed <= set(accepted_arguments(node) or ()):
        if seed < 0:
            seed = comm.shared_random_seed()
        dataset = instantiate(node.dataset)
        groups = node.get("aspect_ratio_grouping", True)  # detectron2's default
        sampler = ResumableSampler(
            len(dataset),
            seed,
            node.total_batch_size // comm.get_world_size(),
            start_iter,
            is_wide=[image["width"] > image["height"] for image in dataset] if groups else None,
            num_workers=1 if groups else max(1, node.get("num_workers", 0)),
        )
        if isinstance(dataset, list):
            dataset = DatasetFromList(dataset, copy=False)
        images = SeededImages(dataset, instantiate(node.mapper), seed)
        extra = {"dataset": images, "mapper": None, "sampler": sampler}
    loader = build(node, "dataloader.train", **extra)
    _prepare_workers(loader)
    return loader


def _prepare_workers(loader: Iterable[list[dict[str, Any]]]) -> None:
    """Derives the workers' seed from the process's seed, and lets them survive signals.

    PyTorch draws that seed when the loader is first read, which would advance the state that a
    resumed run has just restored by one draw.
    """
    while loader is not None and not isinstance(loader, DataLoader):
        # detectron2 wraps a loader to batch by orientation, and to collate
        loader = getattr(loader, "dataset", getattr(loader, "_dataset", None))
    if loader is not None:
        loader.generator = torch.Generator().manual_seed(torch.initial_seed())
        interruption.shield_workers(loader)
