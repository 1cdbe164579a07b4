"""Feed-forward parts: the prediction heads' MLP, the transformer layers' FFN, chunks of tokens."""

from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.clockdistill.modeling.detectors.layers.plain import use_plain_operators

CHUNK = 2**18  # numbers: 1,024 tokens of 256 channels; their hidden activations, 8 MB, stay cached


class MLP(nn.Module):
    """Linear layers with ReLU between them, none after the last."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int):
        super().__init__()
        widths = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class FFN(nn.Module):
    """Two linear layers with an activation and dropout; the residual is the caller's.

    The nesting of `layers` gives the checkpoint keys `layers.0.0` and `layers.1`. An activation
    with parameters has two keys, `activation` and `layers.0.1`.

    Args:
        embed_dim: width of the tokens.
        feedforward_dim: hidden width.
        dropout: behind the activation and at the end.
        activation: copied, so that no two FFNs share parameters; ReLU by default.
    """

    def __init__(
        self,
        embed_dim: int,
        feedforward_dim: int,
        dropout: float,
        activation: nn.Module | None = None,
    ):
        super().__init__()
        self.activation = nn.ReLU(inplace=True) if activation is None else deepcopy(activation)
        self.layers = nn.Sequential(
            nn.Sequential(
                nn.Linear(embed_dim, feedforward_dim), self.activation, nn.Dropout(dropout)
            ),
            nn.Linear(feedforward_dim, embed_dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., embed_dim) to the same shape."""
        # Flat: of more dimensions a linear layer returns a view, and an activation in place on a
        # view makes autograd copy it, forward and backward.
        return self.layers(x.reshape(-1, x.shape[-1])).view(x.shape)


def in_chunks(function: Callable[..., Tensor], *tokens: Tensor) -> Tensor:
    """Returns `function(*tokens)`, computed in chunks on a CPU where no gradient is wanted.

    The next operator then finds a chunk's activations (a feed-forward part's are eight times its
    tokens) in the caches, and the next chunk uses their memory again. With gradients they must be
    kept anyway; GPUs want large operators.

    Args:
        function: treats every token by itself: tensors (N, D) to one (N, D).
        tokens: each (B, S, D).

    Returns:
        (B, S, D).
    """
    first = tokens[0]
    whole = torch.is_grad_enabled() or not first.is_cpu or use_plain_operators()
    # A compiled graph would hold for one number of chunks only.
    if whole or torch.compiler.is_compiling() or first.numel() <= CHUNK:
        return function(*tokens)
    rows = max(1, CHUNK // first.shape[-1])
    chunks = zip(*(x.flatten(0, 1).split(rows) for x in tokens), strict=True)
    return torch.cat([function(*chunk) for chunk in chunks]).unflatten(0, first.shape[:2])
