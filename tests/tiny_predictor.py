"""A run folder with random weights, as `tools/train_net.py` leaves it, for tests of prediction."""

from pathlib import Path

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig

from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.checkpoint import DetectorCheckpointer
from projects.clockdistill.engine.config_file import save_config


def write_run(cfg: DictConfig, name: str = "model_final", *, with_spec: bool = True) -> Path:
    """Writes weights and config to `train.output_dir` and returns it.

    Args:
        cfg: the whole config.
        name: of the checkpoint.
        with_spec: whether it tells its `ModelSpec`.
    """
    folder = Path(cfg.train.output_dir)
    folder.mkdir(exist_ok=True)
    detector = instantiate(cfg.model)
    with torch.no_grad():  # fresh detectors give one score to all queries
        for parameter in detector.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    spec = ModelSpec.from_config(cfg).to_json() if with_spec else None
    DetectorCheckpointer(detector, str(folder), model_spec=spec).save(name)
    save_config(cfg, folder / "config.yaml")
    return folder
