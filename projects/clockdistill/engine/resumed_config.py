"""What `--resume` does with settings that changed since the run started."""

import fnmatch
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.engine.config_file import ConfigError, as_yaml, leaves

_ABSENT = "not set"
# What a checkpoint fixes: settings that would have no effect, or would make another run.
_FIXED = {
    "train.seed": "the order of the images and the random generators are those of the run",
    "train.init_checkpoint": "a resumed run starts from its own last checkpoint",
    "optimizer._target_": "the checkpoint holds the state of the other optimizer",
    "optimizer.params._target_": "the checkpoint holds the optimizer's state of other groups",
    "optimizer.params.lr_factors.*": "the checkpoint holds the optimizer's state of other groups",
    "dataloader.train.total_batch_size": "the position in the data is counted in such batches",
    "dataloader.unlabelled.*": "the position in the data is counted in such batches",
}


def changes_on_resume(cfg: DictConfig) -> list[str]:
    """Compares a config with the config.yaml of the run that it is to continue.

    Learning rates, weight decay and the optimizer's other settings, the schedule, `train.max_iter`
    and all that is not listed here apply from the resumed step on.

    Returns:
        "key: old -> new" of each change; empty if there is no run to continue.

    Raises:
        ConfigError: if a setting changed that the checkpoint fixes.
    """
    folder = Path(cfg.train.output_dir)
    file = folder / "config.yaml"
    if not (file.is_file() and (folder / "last_checkpoint").is_file()):
        return []
    before, now = _flat(OmegaConf.load(file)), _flat(OmegaConf.create(as_yaml(cfg)))
    changes = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key, _ABSENT), now.get(key, _ABSENT)
        if old == new:
            continue
        reason = _reason(key)
        # A factor has another value, or its group is new or gone. A name is new or another one. Any
        # other key that the run's config did not have yet is no change.
        is_group = key.startswith("optimizer.params.lr_factors.")
        is_name = key.startswith("dataloader.unlabelled.names")
        if reason and (is_name or (_ABSENT in (old, new)) == is_group):
            raise ConfigError(
                f"--resume: {key}={new}, but the run in {folder} has {key}={old}; {reason}.\n"
                f"Fix: leave {key} as it was, or start a new run with another train.output_dir "
                "and train.init_checkpoint"
            )
        changes.append(f"{key}: {old} -> {new}")
    return changes


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """Returns every value by its dotted key, interpolations as they are written."""
    return {path: node._get_node(key)._value() for path, node, key in leaves(cfg)}


def _reason(key: str) -> str | None:
    return next((why for one, why in _FIXED.items() if fnmatch.fnmatchcase(key, one)), None)
