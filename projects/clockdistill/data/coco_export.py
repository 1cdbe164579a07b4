"""detectron2's dataset dicts -> one JSON file in COCO's format."""

import json
from collections.abc import Sequence
from pathlib import Path

from detectron2.structures import BoxMode


def write_coco_json(
    path: Path, dataset_dicts: Sequence[dict], classes: Sequence[str], image_root: Path
) -> None:
    """Writes a dataset as a JSON file in COCO's format; parent folders of `path` are created.

    Category ids count from 1 in the order of the classes, file names are relative to the
    image folder, crowd boxes stay crowd boxes. An annotation without "area" gets its box's.
    """
    images, annotations = [], []
    for record in dataset_dicts:
        images.append(
            {
                "id": record["image_id"],
                "file_name": Path(record["file_name"]).relative_to(image_root).as_posix(),
                "width": record["width"],
                "height": record["height"],
            }
        )
        for item in record["annotations"]:
            box = BoxMode.convert(list(item["bbox"]), item["bbox_mode"], BoxMode.XYWH_ABS)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record["image_id"],
                    "category_id": item["category_id"] + 1,
                    "bbox": [round(edge, 2) for edge in box],
                    "area": round(item.get("area", box[2] * box[3]), 2),
                    "iscrowd": item["iscrowd"],
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes, start=1)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
