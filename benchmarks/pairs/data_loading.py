"""Loading KITTI-size images for training beside the step that consumes them."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import LazyCall as L
from PIL import Image

from benchmarks.models import built, tree
from benchmarks.pair import Disagreement, Pair, Sides, Target
from benchmarks.scale import Scale
from benchmarks.scenes import drawn_batch
from benchmarks.timing import seconds
from benchmarks.training import training_step
from projects.clockdistill.configs.common.kitti import dataloader
from projects.clockdistill.data.kitti import load_kitti
from projects.clockdistill.data.kitti_presets import PRESETS
from projects.clockdistill.engine.train_loader import build_train_loader

WORKERS = 2
READ_AHEAD = 4  # more batches than the workers keep ready: two images each
BATCHES = 8  # over which the time of one is averaged


def draw_kitti(folder: Path, scale: Scale) -> None:
    """Writes frames in KITTI's format; at full size a file is about as large as KITTI's PNGs."""
    rng = np.random.default_rng(0)
    images, labels = folder / "training/image_2", folder / "training/label_2"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    size = (scale.frame_width, scale.frame_height)
    for number in range(scale.frames):
        coarse = rng.integers(256, size=(size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
        noisy = smooth + rng.normal(0, 3, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(images / f"{number:06d}.png")
        lines = [_label(*rng.uniform(0, 0.5, 2), size) for _ in range(scale.objects)]
        (labels / f"{number:06d}.txt").write_text("\n".join(lines) + "\n")


def _label(left: float, top: float, size: tuple[int, int]) -> str:
    """One line of KITTI's format: a car of half the image's size."""
    x, y = left * size[0], top * size[1]
    box = f"{x:.2f} {y:.2f} {x + size[0] / 2:.2f} {y + size[1] / 2:.2f}"
    return f"Car 0.00 0 0.00 {box} 1.50 1.60 3.90 0.00 1.50 20.00 0.00"


def drawn_frames(folder: str) -> list[dict[str, Any]]:
    """The training split of a folder that `draw_kitti` filled, as dataset dicts."""
    return load_kitti(PRESETS["kitti7"], "train", Path(folder))


def _batches(folder: Path, scale: Scale) -> Iterator[list[dict[str, Any]]]:
    """KITTI's own training loader, on other files."""
    node = copy.deepcopy(dataloader.train)
    node.dataset = L(drawn_frames)(folder=str(folder))
    node.total_batch_size = scale.batch
    node.num_workers = WORKERS
    return iter(build_train_loader(node, seed=0, start_iter=0))


def _sides(scale: Scale) -> Sides:
    folder = tempfile.TemporaryDirectory()  # lives as long as the function below
    draw_kitti(Path(folder.name), scale)
    batches = _batches(Path(folder.name), scale)
    model = built(tree("dino", 18, scale))
    batch = drawn_batch(scale.batch, scale.height, scale.width, scale.objects, model.num_classes)

    def load() -> list[dict[str, Any]]:
        return next(batches)

    def forget_what_is_ready() -> None:
        assert Path(folder.name).is_dir()
        for _ in range(READ_AHEAD):
            load()

    def check() -> dict[str, Any]:
        loaded = load()
        if len(loaded) != scale.batch or not all(len(entry["instances"]) for entry in loaded):
            raise Disagreement("the loader's batches are not what a step takes")
        files = list(Path(folder.name).rglob("*.png"))
        size = sum(file.stat().st_size for file in files) / len(files)
        return {"workers": WORKERS, "bytes of a file": round(size)}

    return Sides(
        {"batch loaded": seconds(load, before=forget_what_is_ready, calls=BATCHES)},
        {"training step": seconds(training_step(model, batch))},
        check,
    )


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
