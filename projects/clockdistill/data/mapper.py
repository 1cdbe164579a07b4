"""Dataset mapper: dataset dict -> augmented image tensor and boxes."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.file_io import PathManager

from projects.clockdistill.data.image_header import ImageError
from projects.clockdistill.data.image_pixels import read_pixels

_logger = logging.getLogger(__name__)


class DetrMapper:
    """Reads and augments one image for detectron2's loaders.

    Each training image gets one of two augmentations with equal probability, as in DETR
    (arXiv:2005.12872, section 4): without or with a random crop. Random numbers come from
    NumPy's global generator, which the training loader seeds for every image.
    """

    def __init__(
        self,
        augmentation: Sequence[T.Augmentation],
        augmentation_with_crop: Sequence[T.Augmentation] | None = None,
        is_train: bool = True,
        skip_bad_images: bool = False,
    ) -> None:
        """Initializes the mapper.

        Args:
            augmentation: transforms without a crop.
            augmentation_with_crop: transforms with a crop; None or empty to always use the
                first.
            is_train: whether to return boxes.
            skip_bad_images: whether to go on without images that cannot be used: the check of the
                data leaves them out, and a training image that is damaged later is named in the
                log.
        """
        self._augmentations = [T.AugmentationList(list(augmentation))]
        if augmentation_with_crop:
            self._augmentations.append(T.AugmentationList(list(augmentation_with_crop)))
        self._is_train = is_train
        self._skip_bad_images = skip_bad_images
        self._skipped = 0

    def __call__(self, dataset_dict: dict) -> dict | None:
        """Maps one image.

        Args:
            dataset_dict: detectron2's standard dict; not changed.

        Returns:
            The dict without "annotations", with "image": (3, H, W) uint8 in RGB order and, in
            training, "instances": gt_boxes (N, 4) absolute xyxy in the augmented image and
            gt_classes (N,) int64. N may be 0; crowd boxes and boxes outside the crop are left
            out. None if the image cannot be used and bad images are skipped.

        Raises:
            MissingImageError: if the image file is missing.
            ImageError: if it is unreadable or its size differs from the dict's.
        """
        mapped = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        try:
            augmented = T.AugInput(self._read_image(mapped))
        except ImageError as error:
            if not (self._skip_bad_images and self._is_train):
                raise  # no other image can stand in for one that is evaluated
            self._skipped += 1
            _logger.warning("skipped, number %d of this process: %s", self._skipped, error)
            return None
        augmentation = self._augmentations[np.random.randint(len(self._augmentations))]
        transforms = augmentation(augmented)
        image = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        mapped["image"] = torch.from_numpy(image)
        if self._is_train:
            annotations = dataset_dict.get("annotations", [])
            mapped["instances"] = _instances(annotations, transforms, augmented.image.shape[:2])
        return mapped

    def _read_image(self, mapped: dict) -> np.ndarray:
        size = None
        if "width" in mapped and "height" in mapped:
            size = mapped["width"], mapped["height"]
        pixels = read_pixels(PathManager.get_local_path(mapped["file_name"]), size)
        # a dict without a size gets the image's, to which the evaluation maps boxes back
        mapped["height"], mapped["width"] = pixels.shape[:2]
        return pixels


def _instances(
    annotations: Sequence[dict], transforms: T.TransformList, image_size: tuple[int, int]
) -> Instances:
    annotations = [annotation for annotation in annotations if not annotation.get("iscrowd", 0)]
    boxes_xyxy = np.array(
        [
            BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            for annotation in annotations
        ],
        dtype=np.float64,
    ).reshape(-1, 4)
    instances = Instances(image_size)
    instances.gt_boxes = Boxes(torch.from_numpy(transforms.apply_box(boxes_xyxy)).float())
    instances.gt_boxes.clip(image_size)
    instances.gt_classes = torch.tensor(
        [annotation["category_id"] for annotation in annotations], dtype=torch.int64
    )
    return instances[instances.gt_boxes.nonempty()]
