"""Tiny stand-ins: a detector of a few hundred weights, a dataset of small drawings, a config.

Importing this module needs nothing of ours; a test builds what it wants in its tmp_path.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 8
CLASSES = ("red", "green")
_COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60)}


def register_fake_dataset(
    name: str, folder: Path, images: int = 8, seed: int = 0, classes: Sequence[str] = CLASSES
) -> str:
    """Draw images of one or two coloured squares and register them; every fourth is empty.

    Args:
        name: for detectron2's catalogs; a dataset of that name is replaced.
        folder: where the PNG files go.
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


class FakeCriterion(nn.Module):
    """Losses of :class:`FakeDetector`: each object belongs to the cell under its centre."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(
        self, logits: Tensor, boxes: Tensor, instances: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """Take (B, K, H, W) logits, (B, 4, H, W) cxcywh offsets in cells, and the objects."""
        target = torch.zeros_like(logits)
        loss_bbox = boxes.sum() * 0.0
        for index, objects in enumerate(instances):
            for box, label in zip(objects.gt_boxes.tensor, objects.gt_classes, strict=True):
                centre, size = (box[:2] + box[2:]) / 2 / STRIDE, (box[2:] - box[:2]) / STRIDE
                column, row = centre.long().tolist()
                target[index, label, row, column] = 1.0
                wanted = torch.cat([centre - centre.floor(), size])
                loss_bbox = loss_bbox + F.l1_loss(boxes[index, :, row, column], wanted)
        loss_class = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return {"loss_class": loss_class / len(instances), "loss_bbox": loss_bbox}


class FakeDetector(nn.Module):
    """A grid detector with the contract of the real ones: losses in training, detections else.

    Args:
        num_classes: number of classes.
        criterion: computes the losses.
        width: channels of the backbone.
        dropout: makes training draw from the random generators.
    """

    def __init__(
        self, *, num_classes: int, criterion: nn.Module, width: int = 8, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.criterion = criterion
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=4),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        self.class_embed = nn.Conv2d(width, num_classes, 3, padding=1)
        self.bbox_embed = nn.Conv2d(width, 4, 3, padding=1)
        self.register_buffer("pixel_mean", torch.tensor(110.0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pixel_mean.device

    def features(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """Return (B, width, H / 8, W / 8) of images of one size."""
        images = torch.stack([x["image"].to(self.device).float() for x in batched_inputs])
        return self.dropout(self.backbone((images - self.pixel_mean) / 60.0))

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Return {name: loss} in training, [{"instances": ...}] else."""
        features = self.features(batched_inputs)
        logits, boxes = self.class_embed(features), self.bbox_embed(features)
        if self.training:
            targets = [x["instances"].to(self.device) for x in batched_inputs]
            return self.criterion(logits, boxes, targets)
        return [
            {"instances": self._detections(*one, x["height"], x["width"])}
            for *one, x in zip(logits, boxes, batched_inputs, strict=True)
        ]

    def _detections(self, logits: Tensor, boxes: Tensor, height: int, width: int) -> Instances:
        rows, columns = logits.shape[1:]
        scores, found = logits.sigmoid().flatten().topk(min(20, logits.numel()))
        cell = found % (rows * columns)
        row, column = cell // columns, cell % columns
        offset = boxes.flatten(1)[:, cell]
        scale = torch.tensor([width / (columns * STRIDE), height / (rows * STRIDE)])
        centre = (torch.stack([column, row]) + offset[:2]).T * STRIDE * scale.to(self.device)
        half = offset[2:].clamp(min=0.1).T * STRIDE * scale.to(self.device) / 2
        corners = torch.cat([centre - half, centre + half], dim=1)
        return Instances(
            (height, width),
            pred_boxes=Boxes(corners),
            scores=scores,
            pred_classes=found // (rows * columns),
        )


class FakeDistiller(nn.Module):
    """Student, frozen teacher and a small frozen part, as ``DistillMetaArch`` holds them."""

    def __init__(
        self, *, student: FakeDetector, teacher: FakeDetector, teacher_checkpoint: str = ""
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher.requires_grad_(False)
        self.distill_modules = nn.ModuleDict({"embed": nn.Linear(2, 2)}).requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "FakeDistiller":
        """Switch the student; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Return the student's losses and one more in training, its detections else."""
        if not self.training:
            return self.student(batched_inputs)
        losses = self.student(batched_inputs)
        with torch.no_grad():
            wanted = self.teacher.features(batched_inputs)
        losses["loss_distill_memory"] = F.mse_loss(self.student.features(batched_inputs), wanted)
        return losses

    def teacher_detections(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        """Return the teacher's detections."""
        return [result["instances"] for result in self.teacher(batched_inputs)]


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
        """Return [{"instances": ...}]."""
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


_CONFIG = """
from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)

from projects.clockdistill.configs.common.optim import optimizer
from projects.clockdistill.configs.common.schedule import mini as lr_multiplier
from projects.clockdistill.configs.common.train import train
from projects.clockdistill.evaluation.coco import CocoEvaluator
from tests.fakes import FakeCriterion, FakeDetector, FakeDistiller, register_fake_dataset

register_fake_dataset("fake_train", Path({root!r}) / "fake_train", images=12)
register_fake_dataset("fake_val", Path({root!r}) / "fake_val", images=8, seed=1)

dataloader = dict(
    train=L(build_detection_train_loader)(
        dataset=L(get_detection_dataset_dicts)(names="fake_train", filter_empty=False),
        mapper=L(DatasetMapper)(is_train=True, augmentations=[], image_format="RGB"),
        total_batch_size=4,
        num_workers=0,
    ),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names="fake_val", filter_empty=False),
        mapper=L(DatasetMapper)(is_train=False, augmentations=[], image_format="RGB"),
        num_workers=0,
    ),
    evaluator=L(CocoEvaluator)(dataset_name="${{..test.dataset.names}}"),
)

student = L(FakeDetector)(
    num_classes=2, criterion=L(FakeCriterion)(num_classes="${{..num_classes}}"), width=8
)
teacher = L(FakeDetector)(
    num_classes=2, criterion=L(FakeCriterion)(num_classes="${{..num_classes}}"), width=8
)
model = {model}
optimizer.lr = 1e-2
optimizer.params.lr_factors.backbone = 1.0
lr_multiplier.warmup_length.steps = 2
train.update(output_dir={output!r}, max_iter=8, device="cpu", eval_period=4, log_period=2)
train["checkpointer"]["period"] = 4
train["clip_grad"]["params"]["max_norm"] = 1.0
"""


def write_fake_config(root: Path, *, distill: bool = False) -> Path:
    """Write a config that trains a fake detector for 8 steps on the CPU; loading it makes its data.

    Args:
        root: folder for the config, the data and, under "output", the run.
        distill: a fake distillation model instead of a plain detector.
    """
    model = (
        'L(FakeDistiller)(student=student, teacher=teacher, teacher_checkpoint="")'
        if distill
        else "student"
    )
    path = root / ("fake_distill.py" if distill else "fake.py")
    output = str(root / "output")
    path.write_text(_CONFIG.format(root=str(root), output=output, model=model))
    return path
