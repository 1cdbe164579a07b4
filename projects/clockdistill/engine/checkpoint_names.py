"""Key maps: the names of other projects' checkpoints -> ours (docs/checkpoints.md)."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

from projects.clockdistill.engine.checkpoint_rules import DAB, DEFORMABLE, RESNET, Rules

BACKBONE = "backbone."
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile


@dataclass(frozen=True)
class Pixels:
    """How a file's network reads images."""

    input_format: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = Pixels("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE = Pixels("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Origin:
    """What is known of a file besides its weights.

    Attributes:
        project: where its names come from.
        pixels: None if unknown.
        stride_in_1x1: whether bottlenecks have their stride in the first convolution; None if
            unknown.
        positions: (temperature, offset) of the sine position encoding; None if unknown.
        class_names: by class; None if unknown.
        ignored: keys that are not used -> the reason.
    """

    project: str = "clockdistill"
    pixels: Pixels | None = None
    stride_in_1x1: bool | None = None
    positions: tuple[float, float] | None = None
    class_names: tuple[str, ...] | None = None
    ignored: dict[str, str] = field(default_factory=dict)


_COCO_IDS = [category["id"] for category in COCO_CATEGORIES if category["isthing"]]
_COCO_NAMES = tuple(category["name"] for category in COCO_CATEGORIES if category["isthing"])
_COCO_ROWS = 91  # of the original repositories: the largest id and 1


def translate(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], author: str = ""
) -> tuple[dict[str, Tensor], Origin]:
    """Renames a file's weights to those of a model.

    Args:
        state: the file's weights; not changed.
        wanted: the model's, for its keys and shapes.
        author: what files of detectron2's model zoo say under "__author__".

    Returns:
        The weights under our names; those that no rule knows keep their names. And their origin.
    """
    state = _unwrapped(state)
    for anchor in ("backbone.0.body.conv1.weight", "backbone.stem.conv1.weight"):
        prefix = _prefix(state, anchor)
        if prefix:  # a detector inside another module
            inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            result, origin = translate(inside, wanted)
            reason = f"no part of {prefix.removesuffix('.')}"
            ignored = {key: reason for key in state if not key.startswith(prefix)}
            return result, dataclasses.replace(origin, ignored=origin.ignored | ignored)
    if "backbone.0.body.conv1.weight" in state:
        return _original_detector(state, wanted)
    if "conv1_w" in state:
        return _caffe2(state)
    prefix = _prefix(state, "stem.conv1.weight", "res2.0.conv1.weight")
    if prefix is not None and prefix != BACKBONE:
        return _detectron2(state, prefix, author)
    prefix = _prefix(state, "conv1.weight", "layer1.0.conv1.weight")
    if prefix is not None:
        return _resnet(state, prefix)
    return state, Origin()


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes the prefixes of wrappers, if all keys have them."""
    state = dict(state)
    while state:
        prefix = next((w for w in _WRAPPERS if all(key.startswith(w) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _prefix(state: Mapping[str, Tensor], *keys: str) -> str | None:
    """Returns what stands before a backbone's names, or None if there is no backbone.

    Self-supervised training keeps a slow copy of the network: MoCo's encoder_k and
    momentum_encoder, BYOL's target, DINO's teacher. The other one is taken.
    """
    found = [key.removesuffix(keys[0]) for key in state if key.endswith(keys[0])]
    found = [prefix for prefix in found if all(prefix + key in state for key in keys)]
    copies = re.compile(r"encoder_k\.|momentum|target|teacher|ema")
    return min(found, key=lambda prefix: (bool(copies.search(prefix)), len(prefix)), default=None)


def _resnet(state: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], Origin]:
    """Renames a ResNet with torchvision's names."""
    project = "torchvision or timm"
    if prefix:
        project += f" under {prefix.removesuffix('.')}"
    origin = Origin(project, pixels=IMAGENET, stride_in_1x1=False)
    return _backbone(state, prefix, RESNET, origin), origin


def _detectron2(
    state: Mapping[str, Tensor], prefix: str, author: str
) -> tuple[dict[str, Tensor], Origin]:
    """Takes the backbone out of a model of detectron2.

    Its model zoo starts from MSRA's weights by default and keeps their pixels and strides; files
    that it converted from torchvision say so.
    """
    known = {"torchvision": (IMAGENET, False), "Caffe2": (CAFFE, True)}
    known["Detectron2 Model Zoo"] = known["Caffe2"]
    origin = Origin("detectron2", *known.get(author, (None, None)))
    return _backbone(state, prefix, ((r"^(stem|res\d)\.", (r"\1.",)),), origin), origin


def _caffe2(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Origin]:
    """Renames a backbone of Caffe2 or Detectron 1, such as MSRA's R-50.pkl."""
    origin = Origin("Caffe2", pixels=CAFFE, stride_in_1x1=True)
    keys = [key for key in state if not key.endswith("_momentum")]
    renamed = {n: state[k] for k, n in zip(keys, convert_basic_c2_names(keys), strict=True)}
    rules = (
        # The first convolution's bias is 0: a normalisation follows.
        (r"^stem\.conv1\.(?!bias$)", ("stem.conv1.",)),
        (r"^res\d\.\d+\.(?:conv\d|shortcut)\.(?!bias$)", (r"\g<0>",)),
    )
    result = _backbone(renamed, "", rules, origin)
    # Caffe2's AffineChannel is a normalisation whose statistics are part of scale and shift.
    for key in [key for key in result if key.endswith(".norm.weight")]:
        for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
            result.setdefault(
                f"{key.removesuffix('weight')}{name}", torch.full_like(result[key], value)
            )
    return result, origin


def _backbone(
    state: Mapping[str, Tensor], prefix: str, rules: Rules, origin: Origin
) -> dict[str, Tensor]:
    """Returns what `rules` make of the keys with a prefix; the others are no part of a backbone."""
    result = {}
    for key, value in state.items():
        names = _renamed(key.removeprefix(prefix), rules) if key.startswith(prefix) else None
        if names is None:
            origin.ignored[key] = "no part of the backbone"
        for name in names or ():
            result[BACKBONE + name] = value
    return result


def _renamed(key: str, rules: Rules) -> list[str] | None:
    """Returns the names that the first rule gives, or None if none matches."""
    for pattern, replacements in rules:
        if re.search(pattern, key):
            return [re.sub(pattern, replacement, key) for replacement in replacements]
    return None


def _original_detector(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Origin]:
    """Renames the detectors of the repositories that published them."""
    is_dab = "transformer.decoder.layers.0.ca_qcontent_proj.weight" in state
    is_dino = "transformer.tgt_embed.weight" in state
    rules = (*_neck_rules(wanted), *_head_rules(state), *(DAB if is_dab else DEFORMABLE))
    project = "DAB-DETR" if is_dab else "DINO" if is_dino else "Deformable-DETR"
    sizes = [
        len(weights[key]) if key in weights else 0
        for weights in (state, wanted)
        for key in ["class_embed.bias" if is_dab else "class_embed.0.bias"]
    ]
    origin = Origin(
        f"the original {project}",
        pixels=IMAGENET,
        stride_in_1x1=False,
        positions=(20.0, 0.0) if is_dab or is_dino else (10000.0, -0.5),
        class_names=_COCO_NAMES if sizes == [_COCO_ROWS, len(_COCO_IDS)] else None,
    )
    body = "backbone.0.body."
    result = {}
    for key, value in state.items():
        if key.startswith(body):
            names = _renamed(key.removeprefix(body), RESNET)
            names = None if names is None else [BACKBONE + name for name in names]
        else:
            names = _renamed(key, rules) or [key]
        if names is None:
            origin.ignored[key] = "no part of the backbone"
        for name in names or ():
            result[name] = _class_rows(name, value, wanted)
    return result, origin


def _neck_rules(wanted: Mapping[str, Tensor]) -> Rules:
    """Returns the rules of `input_proj`: one level per feature of the backbone, then others."""
    features = 1 + max(
        (int(key.split(".")[2]) for key in wanted if key.startswith("neck.convs.")), default=-1
    )
    if not features:
        return ()  # DAB-DETR's only projection has the same name

    def rename(match: re.Match) -> str:
        level, part = int(match[1]), ("conv", "norm")[int(match[2])]
        if level < features:
            return f"neck.convs.{level}.{part}."
        return f"neck.extra_convs.{level - features}.{part}."

    return ((r"^input_proj\.(\d+)\.([01])\.", (rename,)),)


def _head_rules(state: Mapping[str, Tensor]) -> Rules:
    """Returns the rules of DINO's heads on the proposals, which follow the layers' heads here."""
    layers = len([key for key in state if re.fullmatch(r"class_embed\.\d+\.bias", key)])
    return tuple(
        (
            rf"^transformer\.enc_out_{head}\.",
            (f"{head}.{layers}.", f"transformer.decoder.{head}.{layers}."),
        )
        for head in ("class_embed", "bbox_embed")
    )


def _class_rows(name: str, value: Tensor, wanted: Mapping[str, Tensor]) -> Tensor:
    """Returns the rows of the model's classes.

    The original repositories index classes by COCO's ids, up to 90; here they are counted. DINO's
    label embedding has further rows at its end, which are not read.
    """
    if name not in wanted or not re.search(r"class_embed\.|label_enc\.", name):
        return value
    rows = len(wanted[name])
    if rows == len(_COCO_IDS) and len(value) in (_COCO_ROWS, _COCO_ROWS + 1):
        return value[_COCO_IDS]
    if name.startswith("label_enc.") and len(value) > rows:
        return value[:rows]
    return value
