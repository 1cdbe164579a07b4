"""Copies between host and device; a training step uses no others.

Every copy that makes the host wait leaves the device without work. So host data is pinned and
copied while the host goes on, constants are made on the device by arithmetic, and only what the
host must read comes back.
"""

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """Copies a tensor to a device without waiting for it; on MPS, where that is not safe, waits."""
    device = torch.device(device)  # detrex's detectors name theirs
    if x.is_cpu and device.type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=device.type != "mps")


def to_host(x: Tensor) -> Tensor:
    """Copies a tensor to the host, which waits until the device has computed it."""
    return x.cpu()
