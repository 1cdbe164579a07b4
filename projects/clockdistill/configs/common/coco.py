"""COCO 2017 by detectron2's own registration: `$DETECTRON2_DATASETS/coco`, 80 classes."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from omegaconf import OmegaConf

from projects.clockdistill.data.mapper import DetrMapper
from projects.clockdistill.evaluation.coco import CocoEvaluator

# Sizes: DETR (arXiv:2005.12872), section 4: short side 480 to 800, long side at most 1333; with
# probability 0.5 first a random crop (short side 400 / 500 / 600, window 384 to 600), which the
# whole DETR family has used since.
short_sides = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]

dataloader = OmegaConf.create()

dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_train", filter_empty=False),
    mapper=L(DetrMapper)(
        augmentation=[
            L(T.RandomFlip)(),
            L(T.ResizeShortestEdge)(
                short_edge_length=short_sides, max_size=1333, sample_style="choice"
            ),
        ],
        augmentation_with_crop=[
            L(T.RandomFlip)(),
            L(T.ResizeShortestEdge)(short_edge_length=[400, 500, 600], sample_style="choice"),
            L(T.RandomCrop)(crop_type="absolute_range", crop_size=(384, 600)),
            L(T.ResizeShortestEdge)(
                short_edge_length=short_sides, max_size=1333, sample_style="choice"
            ),
        ],
        is_train=True,
    ),
    total_batch_size=16,
    num_workers=4,
)

# Images that a distilled student sees without labels: registered datasets and folders.
dataloader.unlabelled = dict(names=[], ratio=0.5)  # ratio: of each batch

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_val", filter_empty=False),
    mapper=L(DetrMapper)(
        augmentation=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
        is_train=False,
    ),
    num_workers=4,
)

dataloader.evaluator = L(CocoEvaluator)(dataset_name="${..test.dataset.names}")
