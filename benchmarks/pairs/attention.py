"""Deformable attention as a layer of the encoder calls it, beside detrex's on the CPU.

Twice: the whole module with its four projections, which take as long on both sides, and the
weighted sampling within it alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.agreement import same_tensors
from benchmarks.memory import Build, peak_bytes
from benchmarks.opponents import detrex
from benchmarks.pair import Pair, Sides, Target
from benchmarks.scale import Scale
from benchmarks.timing import seconds
from projects.clockdistill.modeling.detectors.layers.deformable_attention import (
    DeformableAttention,
)
from projects.clockdistill.modeling.detectors.layers.deformable_sampling import deformable_sample

STRIDES = (8, 16, 32, 64)
EMBED_DIM, NUM_HEADS, NUM_POINTS = 256, 8, 4

# Of the norm. At the edge of a cell the slope jumps, and rounding decides on which side of it a
# location lies: measured for the gradients 3e-3, which is the root of one location in 100,000.
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Work:
    """One way to do the work.

    Attributes:
        forward: returns (1, Q, 256).
        wanted: what gradients are asked of, by name, the same names on both sides.
    """

    forward: Callable[[], Tensor]
    wanted: Mapping[str, Tensor]

    def inference(self) -> Tensor:
        """The output, without gradients."""
        with torch.inference_mode():
            return self.forward()

    def training(self) -> tuple[Tensor, ...]:
        """The output and all gradients."""
        output = self.forward()
        generator = torch.Generator().manual_seed(1)
        gradient = torch.randn(output.shape, generator=generator)
        return output.detach(), *torch.autograd.grad(output, list(self.wanted.values()), gradient)


@dataclass(frozen=True)
class Ways:
    """Ours and detrex's way to the same work."""

    ours: Callable[[Scale], Work]
    theirs: Callable[[Scale], Work]


def level_shapes(scale: Scale) -> list[tuple[int, int]]:
    """(H, W) of each level: at 402 x 1333 together 11,394 tokens."""
    return [(-(-scale.height // stride), -(-scale.width // stride)) for stride in STRIDES]


def _reference_points(shapes: list[tuple[int, int]]) -> Tensor:
    """(1, S, L, 2) as (x, y) in [0, 1]: every token asks at its own place."""
    centres = []
    for height, width in shapes:
        y, x = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
        y, x = torch.meshgrid(y, x, indexing="ij")
        centres.append(torch.stack((x, y), dim=-1).flatten(0, 1))
    return torch.cat(centres)[None, :, None].expand(-1, -1, len(shapes), -1).contiguous()


def _module_inputs(shapes: list[tuple[int, int]]) -> tuple[nn.Module, Tensor]:
    """Our module, whose offsets and weights depend on the query, and (1, S, 256) tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = DeformableAttention(EMBED_DIM, NUM_HEADS, len(shapes), NUM_POINTS)
        nn.init.normal_(module.sampling_offsets.weight, std=0.02)
        nn.init.normal_(module.attention_weights.weight, std=0.02)
        tokens = torch.randn(1, sum(h * w for h, w in shapes), EMBED_DIM, requires_grad=True)
    return module, tokens


def our_module(scale: Scale) -> Work:
    """With the addition of the query, which detrex's module does itself."""
    shapes = level_shapes(scale)
    module, tokens = _module_inputs(shapes)
    points = _reference_points(shapes)
    return Work(
        lambda: tokens + module(tokens, tokens, points, shapes),
        {"tokens": tokens, **dict(module.named_parameters())},
    )


def detrex_module(scale: Scale) -> Work:
    """The same by detrex's module with our weights."""
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
    """Values, locations around the tokens' own places, weights: as `deformable_sample`'s."""
    generator = torch.Generator().manual_seed(0)
    points = _reference_points(shapes)[:, :, None, :, None]  # (1, S, 1, L, 1, 2)
    size = (1, points.shape[1], NUM_HEADS, len(shapes), NUM_POINTS)
    cells = 2 * torch.randn(*size, 2, generator=generator)
    level_wh = torch.tensor([(w, h) for h, w in shapes])[:, None]
    channels = EMBED_DIM // NUM_HEADS
    weights = torch.randn(size, generator=generator).flatten(3).softmax(-1).view(size)
    inputs = {
        "value": torch.randn(1, size[1], NUM_HEADS, channels, generator=generator),
        "locations": points + cells / level_wh,
        "weights": weights,
    }
    return {name: tensor.requires_grad_() for name, tensor in inputs.items()}


def our_sampling(scale: Scale) -> Work:
    """What our module calls, by whichever way it chooses."""
    shapes = level_shapes(scale)
    inputs = _sampling_inputs(shapes)
    return Work(lambda: deformable_sample(shapes=shapes, **inputs), inputs)


def detrex_sampling(scale: Scale) -> Work:
    """What detrex's module calls on a CPU."""
    shapes = level_shapes(scale)
    inputs, sizes, sample = _sampling_inputs(shapes), torch.tensor(shapes), detrex.sampling()
    value, locations, weights = inputs.values()
    return Work(lambda: sample(value, sizes, locations, weights), inputs)


def same_results(ways: Ways, scale: Scale) -> Mapping[str, float]:
    """Compares outputs and gradients.

    Raises:
        Disagreement: naming what differs.
    """
    ours, theirs = ways.ours(scale), ways.theirs(scale)
    names = ["output", *(f"gradient of {name}" for name in ours.wanted)]
    both = zip(names, ours.training(), theirs.training(), strict=True)
    found = [same_tensors(name, *values, TOLERANCE) for name, *values in both]
    return {
        "queries": sum(h * w for h, w in level_shapes(scale)),
        "outputs differ by": found[0],
        "gradients differ by": max(found[1:]),
    }


def _forward(ways: Ways, scale: Scale) -> Sides:
    ours, theirs = ways.ours(scale).inference, ways.theirs(scale).inference
    check = partial(same_results, ways, scale)
    return Sides({"forward": seconds(ours)}, {"forward": seconds(theirs)}, check)


def _training(ways: Ways, scale: Scale) -> Sides:
    ours, theirs = ways.ours(scale).training, ways.theirs(scale).training
    check = partial(same_results, ways, scale)
    name = "forward and backward"
    return Sides({name: seconds(ours)}, {name: seconds(theirs)}, check)


def training_of(way: Callable[[Scale], Work], scale: Scale) -> Callable[[], tuple[Tensor, ...]]:
    """What a process of its own builds and runs."""
    return way(scale).training


def _memory(ways: Ways, scale: Scale) -> Sides:
    def peak(way: Build) -> dict[str, Callable[[], float]]:
        build = partial(training_of, way)
        return {"forward and backward": peak_bytes(build, scale, with_building=False)}

    return Sides(peak(ways.ours), peak(ways.theirs), partial(same_results, ways, scale))


def _pairs(name: str, what: str, reference: str, ways: Ways) -> tuple[Pair, ...]:
    """Forward, forward and backward, and peak memory of the latter."""
    rows = (
        ("forward", "forward, encoder size", Target(12, at_least=True), _forward, "s"),
        ("training", "forward + backward", Target(4, at_least=True), _training, "s"),
        (
            "memory",
            "peak extra memory in training",
            Target(1 / 3, at_least=False),
            _memory,
            "bytes",
        ),
    )
    return tuple(
        Pair(
            f"{name}_{kind}",
            f"{what}: {title}",
            "detrex",
            reference,
            target,
            partial(build, ways),
            unit,
        )
        for kind, title, target, build, unit in rows
    )


PAIRS = (
    *_pairs(
        "sampling",
        "deformable attention",
        "detrex's CPU path",
        Ways(our_sampling, detrex_sampling),
    ),
    *_pairs(
        "attention",
        "deformable attention with its projections",
        "detrex's module on the CPU",
        Ways(our_module, detrex_module),
    ),
)
