"""Deformable attention, at the size of an encoder layer, compared with detrex's on the CPU.

Twice: the whole module with its four projections, which take as long on both sides, and the
sampling within it alone.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.agreement import same_tensors
from benchmarks.opponents import detrex
from benchmarks.pair import Pair, Scale, Work
from projects.clockdistill.modeling.detectors.layers.deformable_attention import (
    DeformableAttention,
)
from projects.clockdistill.modeling.detectors.layers.deformable_sampling import deformable_sample

STRIDES = (8, 16, 32, 64)
EMBED_DIM, NUM_HEADS, NUM_POINTS = 256, 8, 4

# Of the norm. At the edge of a cell the slope jumps, and rounding decides on which side of it a
# location lies: measured for the gradients 3e-3, which is the root of one location in 100,000.
TOLERANCE = 1e-2


class Attention(NamedTuple):
    """The attention or sampling of one side.

    Attributes:
        compute: returns (1, S, 256).
        inputs: tensors that need gradients, with the same names on both sides.
    """

    compute: Callable[[], Tensor]
    inputs: Mapping[str, Tensor]


Side = Callable[[Scale], Attention]


def level_shapes(scale: Scale) -> list[tuple[int, int]]:
    """Returns (H, W) of each level: at 402 x 1333 together 11,394 tokens."""
    return [(-(-scale.height // stride), -(-scale.width // stride)) for stride in STRIDES]


def _reference_points(shapes: list[tuple[int, int]]) -> Tensor:
    """Returns (1, S, L, 2): the (x, y) of each token in [0, 1], for every level."""
    centres = [
        torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w).flip(-1)
        for h, w in shapes
    ]
    return torch.cat(centres)[None, :, None].repeat(1, 1, len(shapes), 1)


def _module_inputs(shapes: list[tuple[int, int]]) -> tuple[nn.Module, Tensor]:
    """Returns our module, with offsets and weights that depend on the query, and (1, S, 256)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = DeformableAttention(EMBED_DIM, NUM_HEADS, len(shapes), NUM_POINTS)
        nn.init.normal_(module.sampling_offsets.weight, std=0.02)
        nn.init.normal_(module.attention_weights.weight, std=0.02)
        tokens = torch.randn(1, sum(h * w for h, w in shapes), EMBED_DIM, requires_grad=True)
    return module, tokens


def our_module(scale: Scale) -> Attention:
    """Our module, and the addition of the query, which detrex's module contains."""
    shapes = level_shapes(scale)
    module, tokens = _module_inputs(shapes)
    points = _reference_points(shapes)
    return Attention(
        lambda: tokens + module(tokens, tokens, points, shapes),
        {"tokens": tokens, **dict(module.named_parameters())},
    )


def detrex_module(scale: Scale) -> Attention:
    """detrex's module with our weights."""
    shapes = level_shapes(scale)
    ours, tokens = _module_inputs(shapes)
    module = detrex.deformable_attention(EMBED_DIM, NUM_HEADS, len(shapes))
    module.load_state_dict(ours.state_dict())
    sizes = torch.tensor(shapes)
    lengths = sizes.prod(1)
    arguments = {
        "value": tokens,
        "reference_points": _reference_points(shapes),
        "spatial_shapes": sizes,
        "level_start_index": lengths.cumsum(0) - lengths,
    }
    return Attention(
        lambda: module(tokens, **arguments), {"tokens": tokens, **dict(module.named_parameters())}
    )


def _sampling_inputs(shapes: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Returns arguments of `deformable_sample`, with locations some cells around each token."""
    generator = torch.Generator().manual_seed(0)
    points = _reference_points(shapes)[:, :, None, :, None]  # (1, S, 1, L, 1, 2)
    size = (1, points.shape[1], NUM_HEADS, len(shapes), NUM_POINTS)
    cells = 2 * torch.randn(*size, 2, generator=generator)
    level_wh = torch.tensor([(w, h) for h, w in shapes])[:, None]
    channels = EMBED_DIM // NUM_HEADS
    inputs = {
        "value": torch.randn(1, size[1], NUM_HEADS, channels, generator=generator),
        "locations": points + cells / level_wh,
        "weights": torch.randn(size, generator=generator).flatten(3).softmax(-1).view(size),
    }
    return {name: tensor.requires_grad_() for name, tensor in inputs.items()}


def our_sampling(scale: Scale) -> Attention:
    """The operator within our module."""
    shapes = level_shapes(scale)
    inputs = _sampling_inputs(shapes)
    return Attention(lambda: deformable_sample(shapes=shapes, **inputs), inputs)


def detrex_sampling(scale: Scale) -> Attention:
    """The function within detrex's module on a CPU."""
    shapes = level_shapes(scale)
    inputs, sizes, sample = _sampling_inputs(shapes), torch.tensor(shapes), detrex.sampling()
    value, locations, weights = inputs.values()
    return Attention(lambda: sample(value, sizes, locations, weights), inputs)


def forward(side: Side, scale: Scale) -> Work:
    """Returns what computes the output, without gradients."""
    return torch.inference_mode()(side(scale).compute)


def training(side: Side, scale: Scale) -> Work:
    """Returns what computes the output and all gradients, by name."""
    compute, inputs = side(scale)

    def run() -> dict[str, Tensor]:
        output = compute()
        gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad(output, list(inputs.values()), gradient)
        names = [f"gradient of {name}" for name in inputs]
        return {"output": output.detach(), **dict(zip(names, gradients, strict=True))}

    return run


def same_attention(ours: Side, theirs: Side, scale: Scale) -> dict[str, Any]:
    """Compares outputs and all gradients."""
    our_values, their_values = training(ours, scale)(), training(theirs, scale)()
    differences = {
        name: same_tensors(name, value, their_values[name], TOLERANCE)
        for name, value in our_values.items()
    }
    return {
        "queries": sum(h * w for h, w in level_shapes(scale)),
        "outputs differ by": differences.pop("output"),
        "gradients differ by": max(differences.values()),
    }


def _pairs(name: str, what: str, reference: str, ours: Side, theirs: Side) -> list[Pair]:
    kinds = (
        ("forward", "forward, encoder size", forward, ">=", 12),
        ("training", "forward + backward", training, ">=", 4),
        ("memory", "peak extra memory in training", training, "<=", 1 / 3),
    )
    return [
        Pair(
            against="detrex",
            name=f"{name}_{kind}",
            what=f"{what}: {title}",
            reference=reference,
            bound=bound,
            factor=factor,
            ours=partial(work, ours),
            theirs=[partial(work, theirs)],
            check=partial(same_attention, ours, theirs),
            unit="bytes" if kind == "memory" else "s",
        )
        for kind, title, work, bound, factor in kinds
    ]


PAIRS = (
    *_pairs("sampling", "deformable attention", "detrex's CPU path", our_sampling, detrex_sampling),
    *_pairs(
        "attention",
        "deformable attention with its projections",
        "detrex's module on the CPU",
        our_module,
        detrex_module,
    ),
)
