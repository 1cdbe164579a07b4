"""What "equal to detrex" is tested against: `../shared/parity` and a small set derived from it.

The tests compare with the derived set, which lies in `data/`: per family contracts of three depths;
of the activations some of the kept tokens and every 5th query; all detections, losses and gradient
norms. Where `../shared` is there, they also compare it with the derived set. To write that again:

    python -m tests.modeling.detectors.parity
"""

import json
import lzma
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from projects.clockdistill.configs.models.dab_detr import dab_detr
from projects.clockdistill.configs.models.deformable_detr import deformable_detr
from projects.clockdistill.configs.models.dino import dino

SHARED = Path(__file__).parents[4] / "shared" / "parity"
DATA = Path(__file__).parent / "data"
FAMILIES = {"dino": dino, "dab_detr": dab_detr, "deformable_detr": deformable_detr}
DEPTHS = (18, 50, 101)
NUM_CLASSES = 7
TOKEN_STEP = 7  # ../shared keeps every 7th token of the memory
# Of what ../shared keeps, every so many in the derived set; a single level has few tokens.
DERIVED_TOKEN_STEP = {"dino": 12, "dab_detr": 1, "deformable_detr": 12}
DERIVED_QUERY_STEP = 5
IMAGES = ((128, 320, 0), (160, 224, 1))  # height, width, seed
OBJECTS = ((4, 100), (5, 101))  # count, seed
UNIT_NORMAL = (
    "anchor_box_embed.weight",
    "tgt_embed.weight",
    "query_embedding.weight",
    "label_enc.weight",
    "level_embeds",
)


def contracts(family: str) -> dict[str, dict]:
    """By depth {"state_dict": {key: shape}, "parameters": int} of detrex's, for 7 classes."""
    with np.load(derived(family)) as data:
        return json.loads(lzma.decompress(data["contracts"].tobytes()))


def shared_contracts(family: str) -> dict[str, dict]:
    """The same, from `../shared`."""
    return {str(d): json.loads((SHARED / f"{family}_r{d}.json").read_text()) for d in DEPTHS}


def golden(family: str) -> dict[str, np.ndarray | float]:
    """The golden by its own keys, with thinned activations."""
    with np.load(derived(family)) as data:
        names = json.loads(lzma.decompress(data["scalar_names"].tobytes()))
        scalars = dict(zip(names, data["scalar_values"].tolist(), strict=True))
        return scalars | {k: data[k] for k in data.files if k.startswith(("eval", "train"))}


def shared_golden(family: str) -> dict[str, np.ndarray | float]:
    """The same, from `../shared`."""
    with np.load(SHARED / f"{family}_golden.npz") as data:
        return {key: thinned(family, key, data[key]) for key in data.files}


def derived(family: str) -> Path:
    return DATA / f"{family}_parity.npz"


def thinned(family: str, key: str, values: np.ndarray) -> np.ndarray | float:
    """Of an array as ../shared keeps it, what the derived set keeps."""
    if key.endswith(".memory"):
        return values[..., :: DERIVED_TOKEN_STEP[family], :]
    if key.endswith(".hs"):
        return values[..., ::DERIVED_QUERY_STEP, :]
    return values if values.ndim else float(values)


def config(family: str, **options: int) -> DictConfig:
    """Returns the family's config, at the papers' size."""
    return FAMILIES[family](num_classes=NUM_CLASSES, **options)


def small_detector(family: str) -> nn.Module:
    """The configuration of the golden, with filled weights."""
    small = config(family, depth=18, num_queries=20)
    for part in (small.transformer.encoder, small.transformer.decoder):
        part.num_layers = 2
        part.feedforward_dim = 256
        part.attn_dropout = part.ffn_dropout = 0.0
    if family == "dino":
        small.dn_number = 0
    small.criterion.weight_dict.loss_class = 1.0  # detrex's, also of Deformable-DETR
    small.select_box_nums_for_evaluation = 20
    detector = instantiate(small)
    fill(detector)
    return detector


def inputs() -> list[dict]:
    """The two images with their annotations."""
    batch = []
    for (height, width, seed), (count, box_seed) in zip(IMAGES, OBJECTS, strict=True):
        instances = Instances((height, width))
        boxes_px, classes = objects(count, height, width, box_seed)
        instances.gt_boxes, instances.gt_classes = Boxes(boxes_px), classes
        batch.append({"image": image(height, width, seed), "instances": instances})
    return batch


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Sets every floating-point entry by its name and shape alone."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(np.asarray(values(name, tuple(tensor.shape)))))


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values of one entry, seeded by the CRC-32 of its name."""
    noise = generator(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        return 1.0 + 0.1 * np.abs(noise)
    if name.endswith("sampling_offsets.bias"):
        return 2.0 * noise
    if name.endswith(UNIT_NORMAL):
        return noise
    if len(shape) > 1:
        return noise / np.sqrt(int(np.prod(shape[1:])))
    is_gain = name.endswith(".weight")
    return (1.0 if is_gain else 0.0) + 0.1 * noise


def image(height: int, width: int, seed: int) -> Tensor:
    """A smooth random image (3, height, width) in 0 to 255."""
    coarse = torch.from_numpy(generator(seed).random((1, 3, 6, 10), dtype=np.float32))
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0] * 255


def objects(count: int, height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes (count, 4), absolute xyxy inside the image, and classes (count,)."""
    rng = generator(seed)
    centre = rng.random((count, 2)) * 0.6 + 0.2
    size = rng.random((count, 2)) * 0.25 + 0.05
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    corners = corners * np.array([width, height, width, height])
    classes = rng.integers(0, NUM_CLASSES, count)
    return torch.from_numpy(corners.astype(np.float32)), torch.from_numpy(classes)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def derive(family: str) -> None:
    """Writes the derived set from ../shared."""
    full = shared_golden(family)
    scalars = {key: value for key, value in full.items() if isinstance(value, float)}
    arrays = {key: value for key, value in full.items() if key not in scalars}
    np.savez_compressed(
        derived(family),
        contracts=packed(shared_contracts(family)),
        scalar_names=packed(list(scalars)),
        scalar_values=np.array(list(scalars.values())),
        **arrays,
    )


def packed(content: Mapping | list) -> np.ndarray:
    """JSON, compressed, as bytes: state-dict keys repeat themselves."""
    return np.frombuffer(lzma.compress(json.dumps(content).encode()), dtype=np.uint8)


if __name__ == "__main__":
    for name in FAMILIES:
        derive(name)
