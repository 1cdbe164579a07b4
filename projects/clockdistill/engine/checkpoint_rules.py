"""The tables of the key maps (docs/checkpoints.md).

A rule is (pattern, replacements). The first pattern that matches a key decides, and a key may fill
several of ours.
"""

import re
from collections.abc import Callable

Replacement = str | Callable[[re.Match], str]
Rules = tuple[tuple[str, tuple[Replacement, ...]], ...]

# torchvision's, timm's and MoCo's ResNet -> detectron2's
RESNET: Rules = (
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
_FFN: Rules = (
    (r"^(transformer\.\w+\.layers\.\d+)\.linear1\.", (r"\1.ffns.0.layers.0.0.",)),
    (r"^(transformer\.\w+\.layers\.\d+)\.linear2\.", (r"\1.ffns.0.layers.1.",)),
)
# Deformable-DETR and DINO. Their decoder layer counts its normalisations in the order in which it
# defines them: 1 follows the cross-attention, 2 the self-attention, 3 the feed-forward part.
DEFORMABLE: Rules = (
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
DAB: Rules = (
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
