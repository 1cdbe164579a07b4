"""Your own data in COCO's format, with COCO's augmentation; the command line names its files.

dataloader.train.dataset.json_file=<json> dataloader.train.dataset.image_root=<folder>
dataloader.test.dataset.json_file=<json> dataloader.test.dataset.image_root=<folder>
"""

from detectron2.config import LazyCall as L

from projects.clockdistill.data.coco_json import coco_json_dicts

from .coco import dataloader

dataloader.train.dataset = L(coco_json_dicts)(names="custom_train", json_file="", image_root="")
dataloader.test.dataset = L(coco_json_dicts)(names="custom_val", json_file="", image_root="")
