"""Tests that training batches depend on seed and step alone, and can start anywhere."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog, build_detection_train_loader
from detectron2.data.samplers import TrainingSampler
from omegaconf import DictConfig
from PIL import Image

from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.data_config import is_seeded
from projects.clockdistill.engine.rng import get_rng_state
from projects.clockdistill.engine.train_loader import (
    ResumableSampler,
    SeededImages,
    build_train_loader,
)
from tests.tiny_run import PLAIN, tiny_overrides


def _loader_config(folder: Path, *more: str) -> DictConfig:
    return load_config(PLAIN, [*tiny_overrides(folder), *more]).dataloader


def _images(dataloader: DictConfig, seed: int, start: int, batches: int) -> list[list]:
    """Returns the id and the pixels of every image; a list compares both exactly."""
    loader = build_train_loader(dataloader, seed, start)
    return [
        [(x["image_id"], x["image"].numpy().tobytes()) for x in batch]
        for batch in itertools.islice(loader, batches)
    ]


def _draw(sampler: ResumableSampler, count: int) -> list[int]:
    return list(itertools.islice(itertools.chain.from_iterable(sampler), count))


def test_sampler_numbers_images_by_epoch() -> None:
    whole = _draw(ResumableSampler(5, seed=3, batch_size=2), 20)
    assert [number // 5 for number in whole] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    detectron2_s = list(itertools.islice(TrainingSampler(5, seed=3), 20))
    assert [number % 5 for number in whole] == detectron2_s


def test_processes_share_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _draw(ResumableSampler(5, seed=3, batch_size=2), 12)
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        part = ResumableSampler(5, seed=3, batch_size=2)
        assert _draw(part, 6) == whole[rank::2]


def test_batches_hold_one_orientation() -> None:
    is_wide = [True, False, True, True, False]
    whole = _draw(ResumableSampler(5, 3, 2, is_wide=is_wide), 20)
    assert all(
        is_wide[a % 5] == is_wide[b % 5] for a, b in zip(whole[::2], whole[1::2], strict=True)
    )


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_and_pixels_from_a_later_step_are_those_of_the_whole_run(
    tmp_path: Path, grouping: bool, workers: int
) -> None:
    dataloader = _loader_config(tmp_path)
    _turn_some(DatasetCatalog.get("drawings_train"))
    dataloader.train.aspect_ratio_grouping = grouping
    whole = _images(dataloader, seed=3, start=0, batches=9)
    assert len({pixels for batch in whole for _, pixels in batch}) > 12  # flips differ by epoch
    dataloader.train.num_workers = workers
    for start in (1, 4):
        assert _images(dataloader, seed=3, start=start, batches=5) == whole[start : start + 5]
    assert _images(dataloader, seed=4, start=0, batches=9) != whole


def _turn_some(records: list[dict]) -> None:
    """Turns every third image by 90 degrees, so that batches by orientation differ."""
    for record in records[::3]:
        picture = Image.open(record["file_name"]).transpose(Image.Transpose.ROTATE_90)
        picture.save(record["file_name"])
        record.update(width=picture.width, height=picture.height, annotations=[])


def test_draws_depend_on_seed_epoch_and_image_and_leave_the_generators_alone() -> None:
    def draw(record: dict) -> tuple:
        return record["id"], np.random.rand(), torch.rand(()).item()

    def values(number: int, seed: int = 0) -> tuple:
        return SeededImages([{"id": 0}, {"id": 1}], draw, seed)[number]

    before = str(get_rng_state())
    assert values(0) == values(0)
    assert len({values(0)[1:], values(1)[1:], values(2)[1:], values(0, seed=1)[1:]}) == 4
    assert [values(number)[0] for number in range(4)] == [0, 1, 0, 1]
    assert str(get_rng_state()) == before


def test_image_that_the_mapper_leaves_out_is_replaced_by_the_next() -> None:
    records = [{"id": index} for index in range(3)]
    images = SeededImages(records, lambda record: record if record["id"] == 1 else None, 0)
    assert [images[number]["id"] for number in range(6)] == [1] * 6
    with pytest.raises(ValueError, match="none of the 3 training images"):
        SeededImages(records, lambda record: None, 0)[0]


def detectron2_main_s_loader(dataset, *, mapper, sampler=None, total_batch_size, **kwargs):
    """The signature of the builder on detectron2's main branch."""
    return build_detection_train_loader(
        dataset, mapper=mapper, sampler=sampler, total_batch_size=total_batch_size, **kwargs
    )


def test_a_builder_that_takes_any_option_gets_the_same_batches(tmp_path: Path) -> None:
    dataloader = _loader_config(tmp_path)
    expected = _images(dataloader, seed=3, start=2, batches=4)
    dataloader.train._target_ = detectron2_main_s_loader
    assert is_seeded(dataloader.train)
    assert _images(dataloader, seed=3, start=2, batches=4) == expected


def test_sampler_of_the_config_is_kept(tmp_path: Path) -> None:
    dataloader = _loader_config(tmp_path)
    dataloader.train.sampler = L(TrainingSampler)(size=12, shuffle=False)
    batches = _images(dataloader, seed=3, start=0, batches=3)
    assert [[number for number, _ in batch] for batch in batches] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_with_unlabelled_images_continue(tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "more" / "below"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(folder / f"{number}.png")
    names = f"[drawings_val,{tmp_path / 'more'}]"
    dataloader = _loader_config(
        tmp_path, f"dataloader.unlabelled.names={names}", "dataloader.train.total_batch_size=4"
    )
    dataloader.unlabelled.ratio = 0.25
    whole = list(itertools.islice(build_train_loader(dataloader, 3, 0), 12))
    for batch in whole:
        assert [image["unlabelled"] for image in batch] == [False, False, False, True]
        assert len(batch[-1]["instances"]) == 0
    others = {image["file_name"] for batch in whole for image in batch if image["unlabelled"]}
    validation = {record["file_name"] for record in DatasetCatalog.get("drawings_val")}
    assert others == validation | {str(folder / f"{number}.png") for number in range(3)}

    # not one image with the same other one in every epoch
    pairs = {(batch[0]["image_id"], batch[-1]["image_id"]) for batch in whole}
    assert len(pairs) > len({first for first, _ in pairs})

    dataloader.train.num_workers = workers
    rest = _images(dataloader, seed=3, start=5, batches=4)
    assert rest == [
        [(x["image_id"], x["image"].numpy().tobytes()) for x in batch] for batch in whole[5:9]
    ]


def test_the_labelled_images_of_a_step_do_not_depend_on_the_others(tmp_path: Path) -> None:
    alone = _loader_config(tmp_path, "dataloader.train.total_batch_size=3")
    alone.train.aspect_ratio_grouping = False
    mixed = _loader_config(tmp_path, "dataloader.unlabelled.names=[drawings_val]")
    mixed.train.total_batch_size, mixed.unlabelled.ratio = 4, 0.25
    expected = _images(alone, seed=3, start=0, batches=6)
    assert [batch[:3] for batch in _images(mixed, seed=3, start=0, batches=6)] == expected
