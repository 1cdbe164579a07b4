"""Tests that the order of the training images depends on the seed and can start anywhere."""

import itertools
from pathlib import Path

import pytest
from detectron2.config import LazyCall as L
from detectron2.data.samplers import TrainingSampler

from projects.clockdistill.engine.config_file import load_config
from projects.clockdistill.engine.train_loader import ResumableSampler, build_train_loader
from tests.tiny_run import PLAIN, tiny_overrides


def _images(loader, batches: int) -> list[list[int]]:
    return [[x["image_id"] for x in batch] for batch in itertools.islice(loader, batches)]


def test_sampler_continues_where_another_stopped() -> None:
    whole = list(itertools.islice(ResumableSampler(5, seed=3, start=0), 20))
    assert list(itertools.islice(ResumableSampler(5, seed=3, start=7), 13)) == whole[7:]
    assert sorted(whole[:5]) == [0, 1, 2, 3, 4]
    assert whole == list(itertools.islice(TrainingSampler(5, seed=3), 20))


def test_processes_share_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(itertools.islice(ResumableSampler(5, seed=3, start=4), 6))
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        parts.append(list(itertools.islice(ResumableSampler(5, seed=3, start=4), 3)))
    assert parts == [whole[0::2], whole[1::2]]


@pytest.mark.parametrize("grouping", [True, False])
def test_batches_from_a_later_step_are_those_of_the_whole_run(
    tmp_path: Path, grouping: bool
) -> None:
    node = load_config(PLAIN, tiny_overrides(tmp_path)).dataloader.train
    node.aspect_ratio_grouping = grouping
    whole = _images(build_train_loader(node, seed=3, start_iter=0), 9)
    assert _images(build_train_loader(node, seed=3, start_iter=4), 5) == whole[4:]
    assert _images(build_train_loader(node, seed=4, start_iter=0), 9) != whole


def test_sampler_of_the_config_is_kept(tmp_path: Path) -> None:
    node = load_config(PLAIN, tiny_overrides(tmp_path)).dataloader.train
    node.sampler = L(TrainingSampler)(size=12, shuffle=False)
    batches = _images(build_train_loader(node, seed=3, start_iter=0), 3)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
