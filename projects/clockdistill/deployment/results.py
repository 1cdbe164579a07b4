"""Detections as files: COCO's JSON and KITTI's result files."""

import json
import tempfile
from pathlib import Path
from typing import Any

from detectron2.structures import Instances

from projects.clockdistill.data.kitti_labels import KittiObject
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.atomic import atomic_write
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.evaluation.coco import to_coco_detections


def require_folder(folder: Path) -> None:
    """Refuses a folder for results that cannot be created or written; creates nothing.

    Raises:
        ConfigError: with the fix.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write to the output folder {folder}: {existing}: {error.strerror}.\n"
            "Fix: name a folder that you may write to"
        ) from error


class CocoResults:
    """Detections as a COCO dataset whose annotations have scores.

    Image ids count from 1; "images" gives each id its file. Of a video's frames each is an image,
    with its number from 0 as "frame".

    Args:
        spec: of the detector.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._category_ids = dict(enumerate(spec.category_ids))
        self._content: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "categories": [
                {"id": category, "name": name}
                for category, name in zip(spec.category_ids, spec.class_names, strict=True)
            ],
            "annotations": [],
        }

    def add(self, file_name: str, instances: Instances, frame: int | None = None) -> None:
        """Adds the detections of a picture, or of a frame of a video.

        Args:
            file_name: of the picture or video.
            instances: pred_boxes (xyxy pixels), scores and pred_classes.
            frame: its number in the video.
        """
        images, annotations = self._content["images"], self._content["annotations"]
        height, width = instances.image_size
        image = {"id": len(images) + 1, "file_name": file_name, "width": width, "height": height}
        images.append(image if frame is None else {**image, "frame": frame})
        for detection in to_coco_detections(instances, image["id"], self._category_ids):
            area = detection["bbox"][2] * detection["bbox"][3]
            number = len(annotations) + 1
            annotations.append({"id": number, **detection, "area": area, "iscrowd": 0})

    def write(self, path: Path) -> None:
        """Writes the JSON file."""
        with atomic_write(path, "w") as handle:
            json.dump(self._content, handle)


def kitti_lines(instances: Instances, spec: ModelSpec) -> str:
    """Returns the content of a KITTI result file: 16 columns, unknown 3D fields as in the devkit.

    Source: KITTI object devkit, readme.txt (Geiger et al., CVPR 2012).

    Args:
        instances: pred_boxes (xyxy pixels), scores and pred_classes.
        spec: of the detector; blanks in class names become "_".
    """
    lines = []
    for box, score, label in zip(
        instances.pred_boxes.tensor.tolist(),
        instances.scores.tolist(),
        instances.pred_classes.tolist(),
        strict=True,
    ):
        found = KittiObject(
            type="_".join(spec.class_names[label].split()),
            truncated=-1,
            occluded=-1,
            alpha=-10,
            box_xyxy=tuple(box),
            size_hwl=(-1, -1, -1),
            location_xyz=(-1000, -1000, -1000),
            rotation_y=-10,
        )
        lines.append(f"{found.as_line()} {score:.4f}\n")
    return "".join(lines)
