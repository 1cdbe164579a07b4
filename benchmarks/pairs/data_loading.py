"""Loading KITTI-size images for training, compared with the step that consumes them."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import LazyCall as L
from detectron2.structures import BoxMode
from PIL import Image

from benchmarks.measuring import seconds
from benchmarks.models import build, build_trainer, detector_config, drawn_batch
from benchmarks.pair import Disagreement, Pair, Sides, Target
from benchmarks.scale import Scale
from projects.clockdistill.configs.common.kitti import dataloader
from projects.clockdistill.engine.train_loader import build_train_loader

WIDTH, HEIGHT = 1242, 375  # of KITTI's images
WORKERS = 2
READ_AHEAD = 4  # more batches than the workers keep ready: two images each
BATCHES = 8  # over which the time of one is averaged


def drawn_frames(folder: str, count: int, objects: int) -> list[dict[str, Any]]:
    """Writes PNG files of about the bytes of KITTI's and returns their dataset dicts."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(count):
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


def _sides(scale: Scale) -> Sides:
    folder = tempfile.TemporaryDirectory()
    node = copy.deepcopy(dataloader.train)  # KITTI's own training loader, on other files
    node.dataset = L(drawn_frames)(folder=folder.name, count=scale.frames, objects=scale.objects)
    node.total_batch_size = scale.batch
    node.num_workers = WORKERS
    batches = iter(build_train_loader(node, seed=0, start_iter=0))
    model = build(detector_config("dino", 18, scale))
    step = build_trainer(model, drawn_batch(scale, scale.batch, model.num_classes)).run_step

    def load(count: int) -> list[dict[str, Any]]:
        assert Path(folder.name).is_dir()  # the folder lives as long as this function
        for _ in range(count):
            batch = next(batches)
        return batch

    def check() -> dict[str, Any]:
        batch = load(1)
        if len(batch) != scale.batch or not all(len(entry["instances"]) for entry in batch):
            raise Disagreement("the loader's batches are not what a step takes")
        sizes = [file.stat().st_size for file in Path(folder.name).iterdir()]
        return {"workers": WORKERS, "bytes of a file": round(sum(sizes) / len(sizes))}

    # what the workers have ready does not count
    loading = seconds(lambda: load(BATCHES), setup=lambda: load(READ_AHEAD), items=BATCHES)
    return Sides({"batch loaded": loading}, {"training step": seconds(step)}, check)


PAIRS = (
    Pair(
        "data_loading",
        "a batch of 2 KITTI-size images, decoded and augmented by 2 workers",
        "self",
        "the training step (DINO R18, 402 x 1333) that consumes it",
        Target(1, at_least=True),
        _sides,
    ),
)
