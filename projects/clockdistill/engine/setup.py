"""Start of a run: processes, folder, logs, saved config and seeds."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from detectron2.engine import create_ddp_model
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.engine.config_file import ConfigError, save_config
from projects.clockdistill.modeling.detectors.base import Detector

logger = logging.getLogger(__name__)

_LOGGERS = {"detectron2": "d2", "fvcore": "fvcore", "projects.clockdistill": "clockdistill"}


def setup_run(cfg: DictConfig, *, keep_config: bool) -> None:
    """Creates the run's folder, opens its log, saves the full config and seeds every generator.

    Args:
        cfg: the whole config.
        keep_config: keep an existing config.yaml, which belongs to the weights in that folder.
    """
    folder = Path(cfg.train.output_dir)
    rank = comm.get_rank()
    if comm.is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
    comm.synchronize()
    setup_logger.cache_clear()  # a second run in one process logs to its own folder only
    for name, short in _LOGGERS.items():
        logging.getLogger(name).handlers.clear()
        setup_logger(str(folder), distributed_rank=rank, name=name, abbrev_name=short)
    logging.raiseExceptions = False  # a log on a full disk must not hide the run's own message
    logger.info("command: %s", " ".join(sys.argv))
    logger.debug("environment:\n%s", collect_env_info())
    if not (keep_config and (folder / "config.yaml").is_file()):
        write_config(cfg)
    seed_all_rng(None if cfg.train.seed < 0 else cfg.train.seed + rank)


def write_config(cfg: DictConfig) -> None:
    """Writes the full config into the run's folder."""
    if comm.is_main_process():
        config = Path(cfg.train.output_dir) / "config.yaml"
        save_config(cfg, config)
        logger.info("full config: %s", config)


def under_torchrun() -> bool:
    """Returns whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def torchrun_group(device: str) -> Iterator[None]:
    """Joins torchrun's processes for the duration of the block; without torchrun, does nothing.

    Args:
        device: `train.device`; "cuda" communicates over nccl and selects the local rank's GPU.

    Raises:
        ConfigError: if it names one GPU for several processes.
    """
    on_gpu, index = torch.device(device).type == "cuda", torch.device(device).index
    if not under_torchrun():
        if on_gpu and index is not None:
            torch.cuda.set_device(index)  # whose generator a checkpoint holds
        yield
        return
    if index is not None:
        raise ConfigError(
            f"train.device={device} names one GPU for all processes.\nFix: train.device=cuda, and "
            "CUDA_VISIBLE_DEVICES for a choice"
        )
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    _create_local_group(int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size())))
    try:
        yield
    finally:
        dist.destroy_process_group()


def _create_local_group(processes_per_machine: int) -> None:
    """Tells detectron2 which processes share this machine."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(processes_per_machine)
        return
    # v0.6 has the group but creates it only inside its own launch
    for first in range(0, comm.get_world_size(), processes_per_machine):
        ranks = range(first, first + processes_per_machine)
        group = dist.new_group(list(ranks))
        if comm.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group


def distribute(model: nn.Module, ddp: DictConfig) -> nn.Module:
    """Wraps a model for several processes; in a single process, returns it unchanged.

    Args:
        model: on its device.
        ddp: `train.ddp`, arguments of detectron2's `create_ddp_model`.
    """
    if comm.get_world_size() == 1:
        return model
    # Our detectors' images are channels-last, and so are the strides of the gradients of their
    # 1 x 1 convolutions. DDP's buckets have the weights' strides; where the two differ, it warns
    # and copies. In memory both formats of such a weight are the same, so the optimizer's state
    # fits either.
    for detector in (module for module in model.modules() if isinstance(module, Detector)):
        for parameter in detector.parameters():
            if parameter.shape[2:] == (1, 1):
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
    # Without devices DDP leaves the images alone, which it would copy while the host waits.
    distributed = create_ddp_model(model, device_ids=None, **ddp)
    # No buffer has to be the main process's at each step. Set here, since torch 2.13 renamed the
    # argument to forward_sync_buffers.
    distributed.broadcast_buffers = False
    return distributed
