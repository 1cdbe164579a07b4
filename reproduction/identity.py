"""What makes two runs the same: their config, and the files and data that it names."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from omegaconf import DictConfig, OmegaConf

from projects.clockdistill.evaluation.coco import load_ground_truth

# What tools/train_net.py reads; a config file may hold more, such as the parts of a model.
_READ = ("model", "optimizer", "lr_multiplier", "dataloader", "train")

# Where a run writes and where its teacher lies change nothing that is learnt; the teacher itself
# does, see `file_hash`.
_PLACES = ("train.output_dir", "model.teacher_checkpoint")

# Nor does what the teacher may keep in memory.
_TEACHER_CACHE = "teacher_cache_gib"


def config_hash(cfg: DictConfig) -> str:
    """Digest of all that a run reads of its resolved config and that changes what it learns."""
    cfg = cfg.copy()
    for key in _PLACES:
        if OmegaConf.select(cfg, key) is not None:
            OmegaConf.update(cfg, key, "")
    everything = OmegaConf.to_container(cfg, resolve=True)
    everything["model"].pop(_TEACHER_CACHE, None)
    content = {key: everything[key] for key in _READ}
    return _digest(json.dumps(content, sort_keys=True, default=_plain).encode())


def _plain(value: Any) -> str:
    """Whatever is no plain value: by name, since an address in memory differs every time."""
    return getattr(value, "__qualname__", None) or type(value).__qualname__


def file_hash(path: Path) -> str | None:
    """Digest of a file's content; None if there is no such file."""
    if not path.is_file():
        return None
    status = path.stat()
    return _file_hash(path, status.st_mtime_ns, status.st_size)


@cache
def _file_hash(path: Path, _modified: int, _size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return _shortened(digest.hexdigest())


def data_hash(dataset: str) -> str | None:
    """Digest of a registered dataset's ground truth and first image; None if it is not there.

    Drawn scenes can change without any config changing; figures of both do not compare.
    """
    try:
        return _data_hash(dataset)
    except (KeyError, OSError, ValueError):  # tools/train_net.py will say what is missing
        return None


@cache
def _data_hash(dataset: str) -> str:
    truth = load_ground_truth(dataset)
    images = [{**image, "file_name": ""} for image in truth["images"]]  # wherever the data lies
    first = file_hash(Path(DatasetCatalog.get(dataset)[0]["file_name"]))
    content = [images, truth["annotations"], truth["categories"], first]
    return _digest(json.dumps(content, sort_keys=True, default=str).encode())


def _digest(content: bytes) -> str:
    return _shortened(hashlib.sha256(content).hexdigest())


def _shortened(digest: str) -> str:
    return digest[:16]
