"""Deformable attention, at the size of an encoder layer, compared with detrex's on the CPU.

Twice: the whole module with its four projections, which take as long on both sides, and the
sampling within it alone. The sampling is also compared with our own in torch's `grid_sample`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.agreement import same_tensors
from benchmarks.measuring import peak_bytes, seconds
from benchmarks.opponents import detrex
from benchmarks.pair import Pair, Sides, Target
from benchmarks.scale import Scale
from projects.clockdistill.modeling.detectors.layers.deformable_attention import (
    DeformableAttention,
)
from projects.clockdistill.modeling.detectors.layers.deformable_sampling import deformable_sample
from projects.clockdistill.modeling.detectors.layers.plain import plain_operators

STRIDES = (8, 16, 32, 64)
EMBED_DIM, NUM_HEADS, NUM_POINTS = 256, 8, 4

# Of the norm. At the edge of a cell the slope jumps, and rounding decides on which side of it a
# location lies: measured for the gradients 3e-3, which is the root of one location in 100,000.
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Work:
    """The attention or sampling of one side.

    Attributes:
        compute: returns (1, S, 256).
        inputs: tensors that need gradients, with the same names on both sides.
    """

    compute: Callable[[], Tensor]
    inputs: Mapping[str, Tensor]

    @torch.inference_mode()
    def forward(self) -> Tensor:
        """Returns the output, without gradients."""
        return self.compute()

    def training(self) -> tuple[Tensor, ...]:
        """Returns the output and all gradients."""
        output = self.compute()
        gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
        return output.detach(), *torch.autograd.grad(output, list(self.inputs.values()), gradient)


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
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = DeformableAttention(EMBED_DIM, NUM_HEADS, len(shapes), NUM_POINTS)
        nn.init.normal_(module.sampling_offsets.weight, std=0.02)
        nn.init.normal_(module.attention_weights.weight, std=0.02)
        tokens = torch.randn(1, sum(h * w for h, w in shapes), EMBED_DIM, requires_grad=True)
    return module, tokens


def our_module(scale: Scale) -> Work:
    """Our module, and the addition of the query, which detrex's module contains."""
    shapes = level_shapes(scale)
    module, tokens = _module_inputs(shapes)
    points = _reference_points(shapes)
    return Work(
        lambda: tokens + module(tokens, tokens, points, shapes),
        {"tokens": tokens, **dict(module.named_parameters())},
    )


def detrex_module(scale: Scale) -> Work:
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
    return Work(
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


def our_sampling(scale: Scale) -> Work:
    """The operator within our module."""
    shapes = level_shapes(scale)
    inputs = _sampling_inputs(shapes)
    return Work(lambda: deformable_sample(shapes=shapes, **inputs), inputs)


def plain_sampling(scale: Scale) -> Work:
    """Our sampling in torch's own operators."""
    work = our_sampling(scale)
    return Work(plain_operators()(work.compute), work.inputs)


def detrex_sampling(scale: Scale) -> Work:
    """The function within detrex's module on a CPU."""
    shapes = level_shapes(scale)
    inputs, sizes, sample = _sampling_inputs(shapes), torch.tensor(shapes), detrex.sampling()
    value, locations, weights = inputs.values()
    return Work(lambda: sample(value, sizes, locations, weights), inputs)


Side = Callable[[Scale], Work]


def training_of(side: Side, scale: Scale) -> Callable[[], tuple[Tensor, ...]]:
    """Returns the work whose memory is measured."""
    return side(scale).training


def _sides(kind: str, ours: Side, theirs: Side, scale: Scale) -> Sides:
    def check() -> dict[str, Any]:
        our_work, their_work = ours(scale), theirs(scale)
        names = ["output", *(f"gradient of {name}" for name in our_work.inputs)]
        both = zip(names, our_work.training(), their_work.training(), strict=True)
        output, *gradients = [same_tensors(name, *values, TOLERANCE) for name, *values in both]
        return {
            "queries": sum(h * w for h, w in level_shapes(scale)),
            "outputs differ by": output,
            "gradients differ by": max(gradients),
        }

    def measured(side: Side) -> dict[str, Callable[[], float]]:
        if kind == "forward":
            return {"forward": seconds(side(scale).forward)}
        if kind == "training":
            return {"forward and backward": seconds(side(scale).training)}
        work = partial(training_of, side)
        return {"forward and backward": peak_bytes(work, scale, with_building=False)}

    return Sides(measured(ours), measured(theirs), check)


# what is measured, in words, and how far apart the sides should be
KINDS = {
    "forward": ("forward, encoder size", Target(12, at_least=True)),
    "training": ("forward + backward", Target(4, at_least=True)),
    "memory": ("peak extra memory in training", Target(1 / 3, at_least=False)),
}


def _pairs(
    name: str, what: str, against: str, reference: str, ours: Side, theirs: Side
) -> tuple[Pair, ...]:
    return tuple(
        Pair(
            f"{name}_{kind}",
            f"{what}: {title}",
            against,
            reference,
            target,
            partial(_sides, kind, ours, theirs),
            "bytes" if kind == "memory" else "s",
        )
        for kind, (title, target) in KINDS.items()
    )


SAMPLING, MODULE = "deformable attention", "deformable attention with its projections"
PAIRS = (
    *_pairs("sampling", SAMPLING, "detrex", "detrex's CPU path", our_sampling, detrex_sampling),
    *_pairs("attention", MODULE, "detrex", "detrex's module on the CPU", our_module, detrex_module),
    *_pairs("sampling", SAMPLING, "self", "torch's grid_sample", our_sampling, plain_sampling),
)
