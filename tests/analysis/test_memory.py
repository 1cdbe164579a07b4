"""Live bytes against sums done by hand: 25 float32 values are 100 bytes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.analysis.memory import peak_activation_bytes


class Chain(nn.Module):
    """Runs a function on its weight and the image."""

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 5))
        self.register_buffer("buffer", torch.ones(5, 5))
        self.run = run

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        assert not self.training
        return self.run(self.weight, batched_inputs[0]["image"])


def kept(weight: Tensor, x: Tensor) -> list[Tensor]:
    results = [x + 1]
    results.append(results[-1] + 1)
    results.append(results[-1] + 1)
    return results


def chained(weight: Tensor, x: Tensor) -> Tensor:
    for _ in range(5):
        x = x + 1
    return x


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda weight, x: x + 1, 100),
        (kept, 300),
        (chained, 200),  # a step's argument and result; all before are gone
        (lambda weight, x: (x + 1).add_(1).t().reshape(-1)[3:], 200),  # reshape copies
        (lambda weight, x: (x + 1).add_(1).t()[3:], 100),  # in place, and views
        (lambda weight, x: weight.t()[2:], 0),
        (lambda weight, x: x[2:], 0),
        (lambda weight, x: (x + 1).half(), 150),
        # two steps, the first of which gives a matrix that nobody else sees
        (lambda weight, x: torch.nn.functional.linear(x, weight + 1), 200),
    ],
)
def test_peak(run, expected):
    image = [{"image": torch.rand(5, 5)}]
    detector = Chain(run)
    assert peak_activation_bytes(detector, image) == expected
    assert peak_activation_bytes(detector, image) == expected  # nothing is left of the first


def test_tensors_inside_composite_operators_count():
    # queries, keys and values in one tensor (3 * 80 values), then the rest of attention
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    run = Chain(lambda weight, x: attention(x + 1, x, x)[0])
    peak = peak_activation_bytes(run, [{"image": torch.rand(1, 10, 8)}])
    assert peak > 4 * (10 * 8 * 3 + 2 * 10 * 10)  # projections and the weights of two heads
