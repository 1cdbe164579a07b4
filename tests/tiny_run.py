"""Shipped configs on a dataset of small drawings, which train in seconds.

Importing this module needs nothing of the project; a test builds what it wants in its tmp_path.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image, ImageDraw
from torch import nn

CLASSES = ("red", "green")
_COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60)}


def register_drawings(
    name: str, folder: Path, images: int = 8, seed: int = 0, classes: Sequence[str] = CLASSES
) -> str:
    """Draws images of one or two coloured squares and registers them; every fourth is empty.

    Args:
        name: for detectron2's catalogs; a dataset of that name is replaced.
        folder: folder of the PNG files.
        images: number of images, 64 x 48 pixels.
        seed: of positions and classes.
        classes: names from {"red", "green"}.

    Returns:
        The name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    records = []
    for index in range(images):
        picture = Image.fromarray(rng.integers(90, 130, (48, 64, 3), dtype=np.uint8))
        annotations = []
        for half in range(0 if index % 4 == 3 else 1 + index % 2):
            label = int(rng.integers(len(classes)))
            x, y = int(rng.integers(2, 14)) + 32 * half, int(rng.integers(2, 30))
            box = [x, y, x + 16, y + 16]
            ImageDraw.Draw(picture).rectangle([x, y, x + 15, y + 15], fill=_COLOURS[classes[label]])
            annotations.append(
                {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": label, "iscrowd": 0}
            )
        path = folder / f"{index:03d}.png"
        picture.save(path)
        records.append(
            {
                "file_name": str(path),
                "image_id": index,
                "height": 48,
                "width": 64,
                "annotations": annotations,
            }
        )
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).thing_classes = list(classes)
    return name


class OracleDetector(nn.Module):
    """Detects exactly the registered objects of each image, or those of the next image.

    Args:
        dataset_name: registered.
        shift: 0 for its own objects, 1 for those of the next image.
    """

    def __init__(self, dataset_name: str, shift: int = 0) -> None:
        super().__init__()
        self._records = DatasetCatalog.get(dataset_name)
        self._shift = shift

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Returns [{"instances": ...}]."""
        ids = [record["image_id"] for record in self._records]
        outputs = []
        for image in batched_inputs:
            index = (ids.index(image["image_id"]) + self._shift) % len(ids)
            objects = self._records[index]["annotations"]
            boxes = torch.tensor([a["bbox"] for a in objects], dtype=torch.float).reshape(-1, 4)
            found = Instances(
                (image["height"], image["width"]),
                pred_boxes=Boxes(boxes),
                scores=torch.full((len(objects),), 0.9),
                pred_classes=torch.tensor([a["category_id"] for a in objects], dtype=torch.long),
            )
            outputs.append({"instances": found})
        return outputs


PLAIN = "mini/baselines/dino_r18_synthkitti.py"
TEACHER = "mini/teachers/dino_r50_synthkitti.py"
DISTILLED = "mini/dino_r18_synthkitti.py"


def tiny_overrides(root: Path, config: str = PLAIN) -> list[str]:
    """Draws the data and returns the overrides with which a config trains on it for 8 steps.

    Args:
        root: folder for the data and, under "output", the run.
        config: `PLAIN`, `TEACHER` or `DISTILLED`.
    """
    register_drawings("drawings_train", root / "drawings_train", images=12)
    register_drawings("drawings_val", root / "drawings_val", images=8, seed=1)
    distilled = config == DISTILLED
    detectors = ["model.student", "model.teacher"] if distilled else ["model"]
    sizes = [
        f"{detector}.{size}"
        for detector in detectors
        for size in (
            "backbone.stages.blocks=[1,1,1,1]",
            "transformer.encoder.num_layers=1",
            "num_queries=20",
            "dn_number=20",
        )
    ]
    return [
        f"{detectors[0]}.num_classes=2",
        *sizes,
        *(["model.teacher_checkpoint=''"] if distilled else []),
        "dataloader.train.dataset.names=drawings_train",
        "dataloader.test.dataset.names=drawings_val",
        "dataloader.evaluator.1=null",  # the drawings have no truncation for KITTI's AP
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        f"train.output_dir={root / 'output'}",
        "train.init_checkpoint=''",
        "train.max_iter=8",
        "train.eval_period=4",
        "train.checkpointer.period=4",
        "train.log_period=2",
        "lr_multiplier.warmup_length.steps=2",
    ]
