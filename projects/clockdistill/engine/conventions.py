"""What a file's network expects beyond its shapes: pixels, strides, positions and classes."""

import json
import logging
import re
from collections.abc import Sequence

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.modeling.backbone.resnet import BottleneckBlock
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.engine.checkpoint_names import Origin, Pixels
from projects.clockdistill.engine.data_config import dataset_names

logger = logging.getLogger(__name__)


def origin_of_spec(text: str) -> Origin:
    """Returns what the "model_spec" of our own files says; nothing if it cannot be read."""
    try:
        spec = json.loads(text)
        pixels = Pixels(spec["input_format"], tuple(spec["pixel_mean"]), tuple(spec["pixel_std"]))
        return Origin(pixels=pixels, class_names=tuple(spec["class_names"]))
    except (TypeError, KeyError, ValueError) as error:
        logger.warning("the model_spec of the checkpoint describes no detector: %r", error)
        return Origin()


def differences(origin: Origin, model: nn.Module) -> list[str]:
    """Returns in what a model differs from the one that a file was made with, each with the fix.

    What a file does not tell, or a model does not have, is not compared.

    Args:
        origin: of the file.
        model: a detector.
    """
    found = []
    ours, theirs = _pixels(model), origin.pixels
    if ours and theirs and not _equal_pixels(ours, theirs):
        found.append(
            f"it was trained with {_text(theirs)}; the model reads {_text(ours)}.\nFix: set "
            f"input_format={theirs.input_format} pixel_mean={_numbers(theirs.mean)} "
            f"pixel_std={_numbers(theirs.std)} of this detector"
        )
    in_1x1 = _stride_in_1x1(model)
    if None not in (in_1x1, origin.stride_in_1x1) and in_1x1 != origin.stride_in_1x1:
        names = ("3x3", "1x1")
        found.append(
            f"its bottlenecks have their stride in the {names[origin.stride_in_1x1]} convolution; "
            f"the model's in the {names[in_1x1]}.\nFix: set "
            f"backbone.stages.stride_in_1x1={origin.stride_in_1x1} of this detector"
        )
    positions = _positions(model)
    if None not in (positions, origin.positions) and positions != origin.positions:
        temperature, offset = origin.positions
        found.append(
            f"its position encoding has temperature {temperature:g} and offset {offset:g}; the "
            f"model's {positions[0]:g} and {positions[1]:g}.\nFix: set position_embedding."
            f"temperature={temperature:g} position_embedding.offset={offset:g} of this detector"
        )
    return found


def class_difference(found: Sequence[str] | None, wanted: Sequence[str] | None) -> str | None:
    """Returns how the classes of a file differ from those of the data; None if they are the same.

    Capitals and the kind of separator make no difference. A file without names is not compared.

    Args:
        found: names of the file's classes, in order.
        wanted: names of the data's classes, in order.
    """
    if not found or not wanted:
        return None
    theirs, ours = [[_plain(name) for name in names] for names in (found, wanted)]
    if theirs == ours:
        return None
    kind = "in another order" if sorted(theirs) == sorted(ours) else "of other names"
    place = next(
        (n for n, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]),
        min(len(theirs), len(ours)),
    )
    return (
        f"it was trained with {len(found)} classes {kind} than the data's {len(wanted)}: from "
        f"class {place} on {_some(found, place)}, in the data {_some(wanted, place)}"
    )


def class_names(cfg: DictConfig) -> Sequence[str] | None:
    """Returns the class names of a config's test data, which is registered; None if it has none."""
    return MetadataCatalog.get(dataset_names(cfg, "test")[0]).get("thing_classes")


def teacher_classes(cfg: DictConfig) -> Sequence[str] | None:
    """Returns the names that a teacher's classes must have; None with a `model.class_map`."""
    return None if cfg.model.get("class_map") is not None else class_names(cfg)


def _pixels(model: nn.Module) -> Pixels | None:
    mean, std = getattr(model, "pixel_mean", None), getattr(model, "pixel_std", None)
    if mean is None or std is None:
        return None
    values = (tuple(value.flatten().tolist()) for value in (mean, std))
    return Pixels(getattr(model, "input_format", "RGB"), *values)


def _equal_pixels(one: Pixels, other: Pixels) -> bool:
    pairs = ((one.mean, other.mean), (one.std, other.std))
    return one.input_format == other.input_format and all(
        len(a) == len(b) and np.allclose(a, b, rtol=1e-3) for a, b in pairs
    )


def _stride_in_1x1(model: nn.Module) -> bool | None:
    for module in model.modules():
        if isinstance(module, BottleneckBlock) and module.stride == 2:
            return module.conv1.stride == (2, 2)
    return None


def _positions(model: nn.Module) -> tuple[float, float] | None:
    embedding = getattr(model, "position_embedding", None)
    values = [getattr(embedding, name, None) for name in ("temperature", "offset")]
    return None if None in values else (float(values[0]), float(values[1]))


def _text(pixels: Pixels) -> str:
    mean, std = _numbers(pixels.mean), _numbers(pixels.std)
    return f"{pixels.input_format} images, mean {mean}, deviation {std}"


def _numbers(values: Sequence[float]) -> str:
    return f"[{','.join(f'{value:.6g}' for value in values)}]"


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _some(names: Sequence[str], start: int) -> str:
    shown = ", ".join(names[start : start + 3]) or "none"
    return shown + (", ..." if len(names) > start + 3 else "")
