"""Several processes: under torchrun, or started by detectron2's ``launch``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from detectron2.engine import create_ddp_model
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn


def under_torchrun() -> bool:
    """Tell whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def torchrun_group(device: str) -> Iterator[None]:
    """Join torchrun's processes for the time of the block; without torchrun, do nothing.

    Args:
        device: train.device; "cuda" talks over nccl and takes the GPU of the local rank.
    """
    if not under_torchrun():
        yield
        return
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    _create_local_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        yield
    finally:
        dist.destroy_process_group()


def _create_local_group(processes_per_machine: int) -> None:
    """Tell detectron2 which processes share this machine."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(processes_per_machine)
        return
    # v0.6 has the group but makes it inside its own launch only
    machines = dist.get_world_size() // processes_per_machine
    for machine in range(machines):
        first = machine * processes_per_machine
        group = dist.new_group(list(range(first, first + processes_per_machine)))
        if machine == dist.get_rank() // processes_per_machine:
            comm._LOCAL_PROCESS_GROUP = group


def distribute(model: nn.Module, device: str, ddp: DictConfig) -> nn.Module:
    """Wrap a model for several processes; alone, return it as it is.

    Args:
        model: on its device.
        device: train.device.
        ddp: train.ddp, arguments of DistributedDataParallel.
    """
    options = dict(ddp)
    if torch.device(device).type == "cpu":
        options["device_ids"] = None  # detectron2 would name a GPU
    return create_ddp_model(model, **options)
