"""Start of a run: folder, logs, the config beside the weights, seeds."""

import logging
import sys
from pathlib import Path

from detectron2.config import LazyConfig
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

logger = logging.getLogger(__name__)

_LOGGERS = {"detectron2": "d2", "fvcore": "fvcore", "projects.clockdistill": "clockdistill"}


def setup_run(cfg: DictConfig, *, keep_config: bool) -> Path:
    """Make the run's folder, open its log, save the full config and seed every generator.

    Args:
        cfg: the whole config.
        keep_config: leave a config.yaml that is there, since the weights beside it are its own.

    Returns:
        The run's folder.
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
    logger.info("command: %s", " ".join(sys.argv))
    logger.debug("environment:\n%s", _environment())
    config = folder / "config.yaml"
    if comm.is_main_process() and not (keep_config and config.is_file()):
        LazyConfig.save(cfg, str(config))
        logger.info("full config: %s", config)
    seed_all_rng(None if cfg.train.seed < 0 else cfg.train.seed + rank)
    return folder


def _environment() -> str:
    try:
        return collect_env_info()
    except ImportError as error:  # it asks the compiled ops for their compiler, if they seem there
        return f"detectron2 could not tell: {error}"
