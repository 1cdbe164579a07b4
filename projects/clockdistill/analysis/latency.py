"""Time that detectors take for one image."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Latency:
    """Seconds of repeated forward passes.

    Attributes:
        seconds: of each pass, in order.
        warmup: passes that ran before and do not count.
        device: where they ran.
        threads: CPU threads that torch used.
    """

    seconds: tuple[float, ...]
    warmup: int
    device: str
    threads: int

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median, upper quartile, interpolated between the passes."""
        return tuple(np.quantile(self.seconds, (0.25, 0.5, 0.75)).tolist())

    @property
    def fps(self) -> float:
        """Images per second, one after the other, at the median."""
        return 1 / self.quartiles[1]


@torch.inference_mode()
def measure_latency(
    detectors: Sequence[nn.Module],
    batched_inputs: list[dict[str, Any]],
    warmup: int,
    repeats: int,
) -> list[Latency]:
    """Runs detectors in eval mode, post-processing included.

    They take turns, so that what else the machine does slows all of them alike.

    Args:
        detectors: each on the device to measure.
        batched_inputs: detectron2's dicts, one image; moving it to the device counts.
        warmup: passes of each before the first that counts: kernels compile, caches fill.
        repeats: passes of each that count, at least 1.
    """
    seconds = [
        [_seconds(detector.eval(), batched_inputs) for detector in detectors]
        for _ in range(warmup + repeats)
    ][warmup:]
    threads = torch.get_num_threads()
    return [
        Latency(passes, warmup, str(_device(detector)), threads)
        for detector, passes in zip(detectors, zip(*seconds, strict=True), strict=True)
    ]


def _seconds(detector: nn.Module, batched_inputs: list[dict[str, Any]]) -> float:
    device = _device(detector)
    start = time.perf_counter()
    detector(batched_inputs)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)  # what was asked for may still be running
    return time.perf_counter() - start


def _device(detector: nn.Module) -> torch.device:
    return next(detector.parameters()).device
