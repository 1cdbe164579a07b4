"""KITTI 2D, seven classes: `$DETECTRON2_DATASETS/kitti`.

Other presets by `dataloader.train.dataset.names=kitti3_train dataloader.test.dataset.names=kitti3_val`
(or kitti8, kitti3g); other splits by the environment variable CLOCKDISTILL_KITTI_SPLIT.
"""

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

# CLoCKDistill (arXiv:2502.10683), Table 2: input (402, 1333), which short side 800 / long side
# 1333 makes of 1242 x 375. The long side always binds, so COCO's short sides of 480 to 800 would
# all end at 402. Here DETR's shares of the test size, 0.60, 0.64, ... 1.00 (480 / 800 and so on),
# are taken of 402 instead, and its crop likewise: short sides of 0.5, 0.625, 0.75 and a window of
# 0.48 to 0.75 times the test size.
short_sides = [241, 257, 273, 289, 305, 322, 338, 354, 370, 386, 402]

dataloader = OmegaConf.create()

dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="kitti_train", filter_empty=False),
    mapper=L(DetrMapper)(
        augmentation=[
            L(T.RandomFlip)(),
            L(T.ResizeShortestEdge)(
                short_edge_length=short_sides, max_size=1333, sample_style="choice"
            ),
        ],
        augmentation_with_crop=[
            L(T.RandomFlip)(),
            L(T.ResizeShortestEdge)(short_edge_length=[201, 251, 302], sample_style="choice"),
            L(T.RandomCrop)(crop_type="absolute_range", crop_size=(193, 302)),
            L(T.ResizeShortestEdge)(
                short_edge_length=short_sides, max_size=1333, sample_style="choice"
            ),
        ],
        is_train=True,
    ),
    total_batch_size=16,
    num_workers=4,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="kitti_val", filter_empty=False),
    mapper=L(DetrMapper)(
        augmentation=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
        is_train=False,
    ),
    num_workers=4,
)

dataloader.evaluator = L(CocoEvaluator)(dataset_name="${..test.dataset.names}")
