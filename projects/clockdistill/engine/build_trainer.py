"""The trainer of a config, with its model and teacher."""

import functools

import torch
from omegaconf import DictConfig
from torch import nn

from projects.clockdistill.engine.checks import build
from projects.clockdistill.engine.conventions import teacher_classes
from projects.clockdistill.engine.half_weights import store_weights
from projects.clockdistill.engine.setup import distribute
from projects.clockdistill.engine.solver import build_optimizer
from projects.clockdistill.engine.teacher import load_teacher
from projects.clockdistill.engine.train_loader import build_train_loader
from projects.clockdistill.engine.trainer import Trainer


def build_trainer(cfg: DictConfig) -> Trainer:
    """Builds the model with its teacher's weights, and its trainer."""
    options = cfg.train
    model = build(cfg.model, "model").to(options.device)
    if hasattr(model, "teacher"):
        load_teacher(model.teacher, model.teacher_checkpoint, teacher_classes(cfg))
    return Trainer(
        distribute(model, options.ddp),
        functools.partial(build_train_loader, cfg.dataloader, options.seed),
        build_optimizer(cfg.optimizer, model),
        amp_dtype=options.amp.dtype if options.amp.enabled else None,
        accumulate_steps=options.accumulate_steps,
        output_dir=options.output_dir,
        **(options.clip_grad.params if options.clip_grad.enabled else {}),
    )


def store_teacher_weights(cfg: DictConfig, model: nn.Module) -> None:
    """Stores a teacher's weights in the type in which mixed precision multiplies them."""
    if hasattr(model, "teacher") and cfg.train.amp.enabled:
        store_weights(model.teacher, getattr(torch, cfg.train.amp.dtype))
