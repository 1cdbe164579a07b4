"""Work on many tokens, piece by piece."""

from collections.abc import Callable

import torch
from torch import Tensor

from projects.clockdistill.modeling.detectors.layers.plain import use_plain_operators

PIECE = 2**18  # numbers: 1,024 tokens of 256 channels; their hidden activations, 8 MB, stay cached


def piece_by_piece(function: Callable[..., Tensor], *tokens: Tensor) -> Tensor:
    """`function(*tokens)`, in pieces where that is faster: on a CPU, where no gradient is wanted.

    What a piece leaves behind on its way (a feed-forward part's hidden activations are eight times
    its tokens) is then still in the caches when the next operator reads it, and its memory serves
    the next piece. With gradients it must be kept anyway; GPUs want large operators.

    Args:
        function: treats every token by itself: tensors (N, D) to one (N, D).
        tokens: each (B, S, D).

    Returns:
        (B, S, D).
    """
    first = tokens[0]
    whole = torch.is_grad_enabled() or first.device.type != "cpu" or use_plain_operators()
    if whole or first.numel() <= PIECE:
        return function(*tokens)
    rows = max(1, PIECE // first.shape[-1])
    pieces = zip(*(x.flatten(0, 1).split(rows) for x in tokens), strict=True)
    return torch.cat([function(*piece) for piece in pieces]).unflatten(0, first.shape[:2])
