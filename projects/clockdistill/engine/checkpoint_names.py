"""Key maps: the names of other projects' checkpoints -> ours (docs/training.md).

A map is a table of rules (pattern, replacements). The first pattern that matches a key decides,
and a key may fill several of ours.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from detectron2.checkpoint.c2_model_loading import convert_basic_c2_names
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torch import Tensor

BACKBONE = "backbone."
_COUNTER = "num_batches_tracked"
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile

_Replacement = str | Callable[[re.Match], str]
_Rules = tuple[tuple[str, tuple[_Replacement, ...]], ...]


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

# torchvision's, timm's and MoCo's ResNet -> detectron2's
_RESNET: _Rules = (
    (r"^conv1\.", ("stem.conv1.",)),
    (r"^bn1\.", ("stem.conv1.norm.",)),
    (r"^layer(\d)\.(\d+)\.conv(\d)\.", (lambda m: f"res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.",)),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", (lambda m: f"res{int(m[1]) + 1}.{m[2]}.conv{m[3]}.norm.",)),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", (lambda m: f"res{int(m[1]) + 1}.{m[2]}.shortcut.",)),
    (
        r"^layer(\d)\.(\d+)\.downsample\.1\.",
        (lambda m: f"res{int(m[1]) + 1}.{m[2]}.shortcut.norm.",),
    ),
)
_ENCODER, _DECODER = (rf"^(transformer\.{part}\.layers\.\d+)\." for part in ("encoder", "decoder"))
_FFN: _Rules = (
    (r"^(transformer\.\w+\.layers\.\d+)\.linear1\.", (r"\1.ffns.0.layers.0.0.",)),
    (r"^(transformer\.\w+\.layers\.\d+)\.linear2\.", (r"\1.ffns.0.layers.1.",)),
)
# Deformable-DETR and DINO. Their decoder layer counts its normalisations in the order in which it
# defines them: 1 follows the cross-attention, 2 the self-attention, 3 the feed-forward part.
_DEFORMABLE: _Rules = (
    *_FFN,
    (r"^transformer\.level_embed$", ("transformer.level_embeds",)),
    (_ENCODER + r"self_attn\.", (r"\1.attentions.0.",)),
    (_ENCODER + r"norm1\.", (r"\1.norms.0.",)),
    (_ENCODER + r"norm2\.", (r"\1.norms.1.",)),
    (_DECODER + r"self_attn\.", (r"\1.attentions.0.attn.",)),
    (_DECODER + r"cross_attn\.", (r"\1.attentions.1.",)),
    (_DECODER + r"norm1\.", (r"\1.norms.1.",)),
    (_DECODER + r"norm2\.", (r"\1.norms.0.",)),
    (_DECODER + r"norm3\.", (r"\1.norms.2.",)),
    (r"^query_embed\.", ("query_embedding.",)),
)
_DAB: _Rules = (
    *_FFN,
    (_ENCODER + r"self_attn\.", (r"\1.attentions.0.attn.",)),
    (
        r"^(transformer\.\w+\.layers\.\d+)\.activation\.",  # one module under two names
        (r"\1.ffns.0.activation.", r"\1.ffns.0.layers.0.1."),
    ),
    *(
        (rf"{_DECODER}{theirs}_{part}_proj\.", (rf"\1.attentions.{number}.{name}_proj.",))
        for number, theirs in enumerate(("sa", "ca"))
        for part, name in (
            ("qcontent", "query_content"),
            ("qpos", "query_pos"),
            ("qpos_sine", "query_pos_sine"),
            ("kcontent", "key_content"),
            ("kpos", "key_pos"),
            ("v", "value"),
        )
    ),
    (_DECODER + r"self_attn\.", (r"\1.attentions.0.",)),
    (_DECODER + r"cross_attn\.", (r"\1.attentions.1.",)),
    *(
        (rf"^(transformer\.\w+\.layers\.\d+)\.norm{n + 1}\.", (rf"\1.norms.{n}.",))
        for n in range(3)
    ),
    (r"^transformer\.decoder\.norm\.", ("transformer.decoder.post_norm_layer.",)),
    (r"^refpoint_embed\.", ("anchor_box_embed.",)),
)


def translate(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Origin]:
    """Renames a file's weights to those of a model.

    Args:
        state: the file's weights; not changed.
        wanted: the model's, for its keys and shapes.

    Returns:
        The weights under our names; those that no rule knows keep their names. And their origin.
    """
    state = _unwrapped(state)
    if "backbone.0.body.conv1.weight" in state:
        return _original_detector(state, wanted)
    if "conv1_w" in state:
        return _caffe2(state)
    for stem, convert in (("stem.conv1.weight", _detectron2), ("conv1.weight", _resnet)):
        prefix = _prefix(
            state, stem, "res2.0.conv1.weight" if "stem" in stem else "layer1.0.conv1.weight"
        )
        if prefix is not None and prefix != BACKBONE:
            return convert(state, prefix)
    if "backbone.conv1.weight" in state:
        return _resnet(state, BACKBONE)
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
    return _backbone(state, prefix, _RESNET, origin), origin


def _detectron2(state: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], Origin]:
    """Takes the backbone out of a model of detectron2."""
    origin = Origin("detectron2")
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
    state: Mapping[str, Tensor], prefix: str, rules: _Rules, origin: Origin
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


def _renamed(key: str, rules: _Rules) -> list[str] | None:
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
    rules = (*_neck_rules(wanted), *_head_rules(state), *(_DAB if is_dab else _DEFORMABLE))
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
            names = _renamed(key.removeprefix(body), _RESNET)
            names = None if names is None else [BACKBONE + name for name in names]
        else:
            names = _renamed(key, rules) or [key]
        if names is None:
            origin.ignored[key] = "no part of the backbone"
        for name in names or ():
            result[name] = _class_rows(name, value, wanted)
    return result, origin


def _neck_rules(wanted: Mapping[str, Tensor]) -> _Rules:
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


def _head_rules(state: Mapping[str, Tensor]) -> _Rules:
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
