"""Time that detectors take for one image."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


@torch.inference_mode()
def measure_latency(
    detectors: Sequence[nn.Module],
    batched_inputs: list[dict[str, Any]],
    warmup: int,
    repeats: int,
) -> list[list[float]]:
    """Runs detectors in eval mode, post-processing included.

    They take turns, so that other load of the machine slows all of them alike.

    Args:
        detectors: each on the device to measure.
        batched_inputs: detectron2's dicts, one image; moving it to the device counts.
        warmup: passes of each that do not count: kernels compile, caches fill.
        repeats: passes of each that count, at least 1.

    Returns:
        For each detector, the seconds of the passes that count, in order.
    """
    seconds: list[list[float]] = [[] for _ in detectors]
    for _ in range(warmup + repeats):
        for passes, detector in zip(seconds, detectors, strict=True):
            passes.append(_seconds(detector.eval(), batched_inputs))
    return [passes[warmup:] for passes in seconds]


def _seconds(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> float:
    device = next(detector.parameters()).device
    start = time.perf_counter()
    detector(batched_inputs)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)  # the device may still be computing
    return time.perf_counter() - start
