"""Loading KITTI-size images for training, compared with the step that consumes them."""

import copy
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from detectron2.config import LazyCall as L
from detectron2.structures import BoxMode
from PIL import Image

from benchmarks.models import detector_config, training_step
from benchmarks.pair import Disagreement, Pair, Scale, Work
from projects.clockdistill.configs.common.kitti import dataloader
from projects.clockdistill.engine.train_loader import build_train_loader

WIDTH, HEIGHT = 1242, 375  # of KITTI's images
FRAMES = 16


def drawn_frames(folder: str, objects: int) -> list[dict[str, Any]]:
    """Writes PNG files of about the bytes of KITTI's and returns their dataset dicts."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(FRAMES):
        coarse = rng.integers(256, size=(HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth) + rng.normal(0, 3, (HEIGHT, WIDTH, 3))
        file = f"{folder}/{number:06d}.png"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file)
        corners = rng.uniform(0, (WIDTH / 2, HEIGHT / 2), (objects, 2)).tolist()
        annotations = [
            {"bbox": [x, y, WIDTH / 2, HEIGHT / 2], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
            for x, y in corners
        ]
        frame = {"file_name": file, "image_id": number, "height": HEIGHT, "width": WIDTH}
        frames.append({**frame, "annotations": annotations})
    return frames


def batches(scale: Scale) -> Iterator[list[dict[str, Any]]]:
    """Yields batches of KITTI's own training loader, from other files."""
    with tempfile.TemporaryDirectory() as folder:
        own = copy.deepcopy(dataloader)
        node = own.train
        node.dataset = L(drawn_frames)(folder=folder, objects=scale.objects)
        node.total_batch_size = scale.batch
        node.num_workers = 2
        yield from build_train_loader(own, seed=0, start_iter=0)


def loading(scale: Scale) -> Work:
    """Returns the loading of one batch.

    A round's first four batches come from the queue that the workers fill meanwhile: too few to
    change the median.
    """
    return partial(next, batches(scale))


def complete(scale: Scale) -> dict[str, int]:
    """Checks that a batch is what a step takes."""
    batch = next(batches(scale))
    if len(batch) != scale.batch or not all(len(entry["instances"]) for entry in batch):
        raise Disagreement("the loader's batches are not what a step takes")
    return {"images": len(batch)}


PAIR = Pair(
    against="self",
    name="data_loading",
    what="a batch of 2 KITTI-size images, decoded and augmented by 2 workers",
    reference="the training step (DINO R18, 402 x 1333) that consumes it",
    bound=">=",
    factor=1,
    ours=loading,
    theirs=[partial(training_step, partial(detector_config, "dino", 18))],
    check=complete,
)
