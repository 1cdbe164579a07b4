"""KITTI 2D, seven classes, augmented as COCO is: `$DETECTRON2_DATASETS/kitti`.

The long side's cap of 1333 turns every short side from 402 to 800 into 402 x 1333 for KITTI's
1242 x 375 (CLoCKDistill, Table 2), so only the crop branch varies the scale.

Other presets (kitti3, kitti8, kitti3g, kitti7_no_dontcare) by their names,
dataloader.train.dataset.names=kitti3_train dataloader.test.dataset.names=kitti3_val; other splits
by the environment variable CLOCKDISTILL_KITTI_SPLIT. docs/evaluation.md describes both evaluators.
"""

from detectron2.config import LazyCall as L

from projects.clockdistill.evaluation.kitti import KittiEvaluator

from .coco import dataloader

dataloader.train.dataset.names = "kitti_train"
dataloader.test.dataset.names = "kitti_val"

dataloader.evaluator.dataset_name = "${...test.dataset.names}"
dataloader.evaluator = [
    dataloader.evaluator,
    L(KittiEvaluator)(dataset_name="${...test.dataset.names}"),
]
