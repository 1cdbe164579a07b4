"""Compares what two sides compute, before anything is timed."""

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from benchmarks.pair import Disagreement

MEMORY_TOLERANCE = 1e-4  # float32 through six layers, summed in another order; measured 1e-6
SCORE_TOLERANCE = 3e-3  # measured 3e-4, where float32 changes the rank of DINO's proposals
LEAST_MATCHED = 0.95  # proposals of another rank start from other queries; 2 of 900 were seen


def same_tensors(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> float:
    """Returns the norm of the difference as a share of the norm.

    The largest difference would not do: at the edge of a cell rounding decides which of two slopes
    the gradient of a sampling location takes, which happens to a few of a million.

    Raises:
        Disagreement: if it exceeds the tolerance or is not finite, or the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise Disagreement(f"{name}: ours is {tuple(ours.shape)}, theirs {tuple(theirs.shape)}")
    scale = theirs.norm().clamp(min=torch.finfo(theirs.dtype).tiny)
    difference = ((ours - theirs).norm() / scale).item()
    if not difference <= tolerance:  # also where it is NaN
        raise Disagreement(
            f"{name}: ours and theirs differ by {difference:.2g} of the norm, more than "
            f"{tolerance:.2g}"
        )
    return difference


def same_figures(ours: Mapping[str, float], theirs: Mapping[str, float], tolerance: float) -> None:
    """Compares figures with equal names; NaN equals NaN.

    Raises:
        Disagreement: naming the figure that differs by more than the tolerance.
    """
    try:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance, equal_nan=True)
    except AssertionError as error:
        raise Disagreement(str(error)) from error


def same_detections(ours: Instances, theirs: Instances) -> dict[str, float]:
    """Compares scores by rank, and counts detections that the other side has as well.

    Returns:
        The difference of scores, and the share of our detections that match one of theirs: same
        class, equal score, all edges within a pixel.

    Raises:
        Disagreement: if more differ than rounding explains.
    """
    scores = same_tensors(
        "scores", ours.scores.sort().values, theirs.scores.sort().values, SCORE_TOLERANCE
    )
    matches = ours.pred_classes[:, None] == theirs.pred_classes
    matches &= (ours.scores[:, None] - theirs.scores).abs() <= SCORE_TOLERANCE
    edges = ours.pred_boxes.tensor[:, None] - theirs.pred_boxes.tensor
    matches &= edges.abs().amax(-1) <= 1
    share = matches.any(1).float().mean().item()
    if share < LEAST_MATCHED:
        raise Disagreement(f"detections: only {share:.0%} of ours are among theirs")
    return {"scores differ by": scores, "share of matched detections": share}


@torch.inference_mode()
def same_detectors(
    ours: nn.Module, theirs: nn.Module, batched_inputs: list[dict[str, Any]]
) -> dict[str, float]:
    """Compares encoder outputs and detections of two detectors with the same weights.

    Args:
        ours: its encoder is `transformer.encoder`, as that of the other.
        theirs: the other.
        batched_inputs: detectron2's dicts, one image.

    Raises:
        Disagreement: naming what differs.
    """
    memories, found = [], []
    for detector in (ours.eval(), theirs.eval()):
        handle = detector.transformer.encoder.register_forward_hook(
            lambda module, args, output: memories.append(output)
        )
        found.append(detector(batched_inputs)[0]["instances"])
        handle.remove()
    memory = same_tensors("encoder output", *memories, MEMORY_TOLERANCE)
    return {"encoder outputs differ by": memory, **same_detections(*found)}
