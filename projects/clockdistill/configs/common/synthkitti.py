"""Drawn driving scenes in KITTI's format, 320 x 96, created on first use; not KITTI itself."""

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
from projects.clockdistill.evaluation.kitti import KittiEvaluator

dataloader = OmegaConf.create()

# Flip only: the scenes are drawn at the size at which a CPU trains in minutes.
dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="synthkitti_train", filter_empty=False),
    mapper=L(DetrMapper)(augmentation=[L(T.RandomFlip)()], is_train=True),
    total_batch_size=4,
    num_workers=1,  # a frame is read in about a millisecond
)

# Images that a distilled student sees without labels: registered datasets and folders.
dataloader.unlabelled = dict(names=[], ratio=0.5)  # ratio: of each batch

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="synthkitti_val", filter_empty=False),
    mapper=L(DetrMapper)(augmentation=[], is_train=False),
    num_workers=1,
)

dataloader.evaluator = [
    L(CocoEvaluator)(dataset_name="${...test.dataset.names}"),
    L(KittiEvaluator)(dataset_name="${...test.dataset.names}"),
]
