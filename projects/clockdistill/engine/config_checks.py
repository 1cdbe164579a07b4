"""Refuse a config that would fail later, before any work is done."""

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from projects.clockdistill.engine.call_arguments import accepted_arguments
from projects.clockdistill.engine.config_file import ConfigError, nearest

_TOP_LEVEL = ("model", "dataloader", "optimizer", "lr_multiplier", "train")

# every key of cfg.train; configs/common/train.py gives each its default and its meaning
TRAIN_KEYS = {
    "output_dir": None,
    "init_checkpoint": None,
    "allow_pickle": None,
    "max_iter": None,
    "seed": None,
    "device": None,
    "amp": {"enabled": None, "dtype": None},
    "clip_grad": {"enabled": None, "params": {"max_norm": None, "norm_type": None}},
    "ddp": {"broadcast_buffers": None, "find_unused_parameters": None, "fp16_compression": None},
    "checkpointer": {"period": None, "max_to_keep": None},
    "eval_period": None,
    "log_period": None,
    "model_ema": {"enabled": None, "decay": None, "use_ema_weights_for_eval_only": None},
    "best_metric": None,
    "teacher_check_images": None,
}


def check_config(cfg: DictConfig) -> None:
    """Check the keys, the arguments of every lazy call and the device.

    Raises:
        ConfigError: naming the key and the mend.
    """
    for key in _TOP_LEVEL:
        if key not in cfg:
            raise ConfigError(
                f"the config has no {key}; it needs " + ", ".join(_TOP_LEVEL) + " (see "
                "projects/clockdistill/configs/common for parts to import)"
            )
    _check_train_keys(cfg.train, TRAIN_KEYS, "train")
    _check_calls(cfg, "")
    _check_device(cfg.train)


def _check_train_keys(node: DictConfig, schema: dict, path: str) -> None:
    for key in node:
        if key not in schema:
            known = [f"{path}.{name}" for name in schema]
            raise ConfigError(
                f"unknown config key {path}.{key}{nearest(f'{path}.{key}', known)} "
                f"{path} has: {', '.join(schema)}"
            )
    for key, below in schema.items():
        if key not in node:
            raise ConfigError(
                f"the config has no {path}.{key}: take train from configs/common/train.py and "
                "change what differs"
            )
        if below is not None:
            _check_train_keys(node[key], below, f"{path}.{key}")


def _check_calls(node: DictConfig | ListConfig, path: str) -> None:
    """Walk a tree; every lazy call's arguments must be its target's."""
    if isinstance(node, DictConfig):
        try:
            accepted = accepted_arguments(node)
        except ImportError as error:
            raise ConfigError(f"{path}._target_={node['_target_']}: {error}") from error
        for key in node if accepted is not None else ():
            if key != "_target_" and key not in accepted:
                target = node["_target_"]
                name = getattr(target, "__qualname__", target)
                known = [f"{path}.{name}" for name in accepted]
                raise ConfigError(
                    f"unknown config key {path}.{key}{nearest(f'{path}.{key}', known)} "
                    f"{name} takes: {', '.join(accepted)}"
                )
    for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
        if OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key):
            continue
        if isinstance(node[key], (DictConfig, ListConfig)):
            _check_calls(node[key], f"{path}.{key}" if path else str(key))


def _check_device(train: DictConfig) -> None:
    try:
        device = torch.device(train.device)
    except RuntimeError as error:
        raise ConfigError(f"train.device={train.device}: {error}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"train.device={train.device}, but this PyTorch ({torch.__version__}) finds no CUDA "
            "GPU: add train.device=cpu"
        )
    if not train.amp.enabled:
        return
    if train.amp.dtype not in ("bfloat16", "float16"):
        raise ConfigError(f"train.amp.dtype={train.amp.dtype}: use bfloat16 or float16")
    if train.amp.dtype == "float16" and device.type != "cuda":
        raise ConfigError("train.amp.dtype=float16 needs CUDA: use train.amp.dtype=bfloat16")
