"""Training loader whose batches depend on seed and step alone, so that a resumed run repeats them.

By hand: detectron2's sampler always starts at the first image, and its augmentation draws depend on
the worker that happens to read an image.
"""

import itertools
import logging
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
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from projects.clockdistill.data.unlabelled import unlabelled_dicts
from projects.clockdistill.engine import interruption
from projects.clockdistill.engine.checks import build
from projects.clockdistill.engine.config_file import named_arguments
from projects.clockdistill.engine.data_config import (
    is_seeded,
    unlabelled_names,
    unlabelled_per_process,
)
from projects.clockdistill.modeling.pseudo_targets import UNLABELLED

_logger = logging.getLogger(__name__)


class ResumableSampler(TrainingSampler):
    """detectron2's endless shuffle in batches, started at any of them.

    Yields lists of epoch * size + index of an image, which `SeededImages` takes. Every process has
    its own share, as in detectron2.

    Args:
        size: number of images.
        seed: of the shuffle, the same on every process.
        batch_size: of one process.
        is_wide: for every image, whether it is wider than tall; batches then hold images of one
            orientation. None: any images.
    """

    def __init__(
        self, size: int, seed: int, batch_size: int, is_wide: Sequence[bool] | None = None
    ) -> None:
        super().__init__(size, seed=seed)
        self._batch_size = batch_size
        self._is_wide = is_wide

    def __iter__(self) -> Iterator[list[int]]:
        groups: dict[bool, list[int]] = {True: [], False: []}
        shuffled = enumerate(self._infinite_indices())
        for position, index in itertools.islice(shuffled, self._rank, None, self._world_size):
            group = groups[True if self._is_wide is None else bool(self._is_wide[index])]
            group.append(position // self._size * self._size + index)
            if len(group) == self._batch_size:
                yield group[:]
                group.clear()


class SeededBatches(IterableDataset):
    """The images of a run, batch by batch, for a loader whose workers build whole batches.

    Here, not by a sampler: which images a worker gets from one depends on detectron2's version.

    Args:
        parts: images and the endless batches of their numbers, for each kind of images. A batch has
            those of all kinds, one after the other; of several kinds, each image says whether it is
            of one behind the first, `UNLABELLED`.
        start_iter: batches that every process has taken already.
    """

    def __init__(
        self, parts: Sequence[tuple["SeededImages", ResumableSampler]], start_iter: int
    ) -> None:
        self._parts = parts
        self._start_iter = start_iter

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        batches = zip(*(numbers for _, numbers in self._parts), strict=True)
        for batch in itertools.islice(batches, self._start_iter + first, None, step):
            for kind, numbers in enumerate(batch):
                marks = {UNLABELLED: kind > 0} if len(batch) > 1 else {}
                images, _ = self._parts[kind]
                for number in numbers:
                    yield {**images[number], **marks}


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
    dataloader: DictConfig, seed: int, start_iter: int
) -> Iterable[list[dict[str, Any]]]:
    """Builds `dataloader.train` so that its batches are those from `start_iter` on.

    A resumed run gets exactly the batches of an uninterrupted one, whatever the number of workers.
    A config's own sampler is kept and starts again.

    Args:
        dataloader: `cfg.dataloader`. `train` is a lazy call of `build_detection_train_loader`, or
            of a builder with its arguments; `unlabelled` has the names of further images, which
            take part without labels, and their ratio of each batch. Orientations are not grouped
            then.
        seed: below 0, every run shuffles and augments differently.
        start_iter: first step.

    Raises:
        ConfigError: if the ratio leaves a process no labelled or no unlabelled image.
    """
    node, extra = dataloader.train, {}
    if is_seeded(node):
        if seed < 0:
            seed = comm.shared_random_seed()
        batches = seeded_batches(dataloader, instantiate(node.dataset), seed, start_iter)
        extra = {"dataset": batches, "mapper": None, "sampler": None}
        if "aspect_ratio_grouping" in named_arguments(node):
            extra["aspect_ratio_grouping"] = False  # the batches are grouped already
    loader = build(node, "dataloader.train", **extra)
    _prepare_workers(loader)
    return loader


def seeded_batches(
    dataloader: DictConfig, dataset: Sequence[dict], seed: int, start_iter: int = 0
) -> SeededBatches:
    """Returns the mapped images of a run in the order of its steps.

    Args:
        dataloader, start_iter: as of `build_train_loader`; `is_seeded` holds.
        dataset: detectron2's standard dicts, with labels.
        seed: at least 0.
    """
    node = dataloader.train
    mapper = instantiate(node.mapper)
    names = unlabelled_names(dataloader)
    groups = not names and node.get("aspect_ratio_grouping", True)  # detectron2's default
    is_wide = [image["width"] > image["height"] for image in dataset] if groups else None
    size = node.total_batch_size // comm.get_world_size()
    without_labels = unlabelled_per_process(size, dataloader.unlabelled.ratio) if names else 0
    sampler = ResumableSampler(len(dataset), seed, size - without_labels, is_wide)
    parts = [(_seeded_images(dataset, mapper, seed), sampler)]
    if names:
        others = unlabelled_dicts(names)
        _logger.info(
            "images without labels: %d (%s), %d of the %d of each step and process",
            len(others),
            ", ".join(names),
            without_labels,
            size,
        )
        # with the same seed, two sets of equal size would be paired in every epoch
        (seed,) = np.random.SeedSequence((seed, 1)).generate_state(1).tolist()
        sampler = ResumableSampler(len(others), seed, without_labels)
        parts.append((_seeded_images(others, mapper, seed), sampler))
    return SeededBatches(parts, start_iter)


def _seeded_images(dataset: Any, mapper: Callable[[dict], dict | None], seed: int) -> SeededImages:
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    return SeededImages(dataset, mapper, seed)


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
