"""Pictures of what the trainer sees: the loader's own images and boxes."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog
from detectron2.data.samplers import TrainingSampler

from projects.clockdistill.analysis.data_pictures import load_training_data, training_pictures
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.engine.train_loader import build_train_loader
from projects.clockdistill.visualization.detection_grid import Outcome
from tests.tiny_run import PLAIN, tiny_overrides

FLIP_AND_RESIZE = (
    "dataloader.train.mapper.augmentation=[{_target_: detectron2.data.transforms.RandomFlip}, "
    "{_target_: detectron2.data.transforms.ResizeShortestEdge, short_edge_length: [40, 60, 80], "
    "sample_style: choice}]"
)


def test_pictures_are_what_the_loader_yields(tmp_path: Path) -> None:
    cfg = load_config(PLAIN, [*tiny_overrides(tmp_path), FLIP_AND_RESIZE, "train.seed=5"])
    pictures = training_pictures(load_training_data(cfg), 10)
    loader = build_train_loader(cfg.dataloader, 5, 0)
    images = list(itertools.islice(itertools.chain.from_iterable(loader), 10))
    assert len(pictures) == 10
    for picture, image in zip(pictures, images, strict=True):
        np.testing.assert_array_equal(picture.pixels, image["image"].permute(1, 2, 0).numpy())
        boxes = image["instances"].gt_boxes.tensor.tolist()
        assert [list(box.xyxy_px) for box in picture.boxes] == boxes
        assert [box.label for box in picture.boxes] == image["instances"].gt_classes.tolist()
        assert Path(image["file_name"]).name in picture.title
        assert picture.note == ("" if boxes else "no objects")
    assert len({picture.pixels.shape for picture in pictures}) == 3  # of the three sizes
    assert {picture.note for picture in pictures} == {"", "no objects"}


def test_a_loader_with_a_sampler_of_its_own_is_read_as_it_is(tmp_path: Path) -> None:
    cfg = load_config(PLAIN, tiny_overrides(tmp_path))
    cfg.dataloader.train.sampler = L(TrainingSampler)(size=12, shuffle=False)
    cfg.dataloader.train.aspect_ratio_grouping = False
    pictures = training_pictures(load_training_data(cfg), 5)
    assert [picture.title.split()[0] for picture in pictures] == [f"00{n}.png" for n in range(5)]
    assert [len(picture.boxes) for picture in pictures] == [1, 2, 1, 0, 1]


def test_images_without_labels_are_shown_as_such(tmp_path: Path) -> None:
    names = "dataloader.unlabelled.names=[drawings_val]"
    cfg = load_config(PLAIN, [*tiny_overrides(tmp_path), names])
    cfg.dataloader.train.total_batch_size, cfg.dataloader.unlabelled.ratio = 4, 0.25
    pictures = training_pictures(load_training_data(cfg), 8)
    notes = [picture.note == "without labels" for picture in pictures]
    assert notes == 2 * [False, False, False, True]


def test_crowds_move_with_their_image(tmp_path: Path) -> None:
    cfg = load_config(PLAIN, [*tiny_overrides(tmp_path), FLIP_AND_RESIZE])
    for record in DatasetCatalog.get("drawings_train"):
        # each object's box is also a crowd's
        record["annotations"] += [{**a, "iscrowd": 1} for a in record["annotations"]]
    pictures = training_pictures(load_training_data(cfg), 50)
    assert len(pictures) == 12  # not more than there are
    for picture in pictures:
        crowds = [box.xyxy_px for box in picture.boxes if box.outcome is Outcome.IGNORED]
        assert crowds == [box.xyxy_px for box in picture.boxes if box.outcome is None]
    assert any(picture.boxes for picture in pictures)


def test_statistics_are_those_of_the_files(tmp_path: Path) -> None:
    cfg = load_config(PLAIN, tiny_overrides(tmp_path))
    data = load_training_data(cfg)
    splits = data.splits()
    assert list(splits) == ["training: drawings_train", "validation: drawings_val"]
    # of every four images, the first three have 1, 2 and 1 squares of 16 x 16 pixels
    for split, images in zip(splits.values(), (12, 8), strict=True):
        assert len(split.sizes) == images and len(split.areas) == images
        assert (split.areas == 256).all()
    assert data.queries == 20


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("dataloader=null", "no dataloader"),
        ("dataloader.train.dataset.names=drawing_train", "not a registered dataset"),
        ("model.num_classes=3", "model.num_classes=3"),
    ],
)
def test_what_training_would_refuse_is_refused(tmp_path: Path, override: str, words: str) -> None:
    cfg = load_config(PLAIN, tiny_overrides(tmp_path))
    key, _, value = override.partition("=")
    if value == "null":
        del cfg[key]
    else:
        cfg = load_config(PLAIN, [*tiny_overrides(tmp_path), override])
    with pytest.raises(ConfigError, match=words):
        load_training_data(cfg)


def test_errors_of_the_check_end_the_command(tmp_path: Path) -> None:
    cfg = load_config(PLAIN, tiny_overrides(tmp_path))
    Path(DatasetCatalog.get("drawings_train")[3]["file_name"]).unlink()
    with pytest.raises(ConfigError, match=r"dataloader.train.dataset.*003\.png"):
        load_training_data(cfg)
