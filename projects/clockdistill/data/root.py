"""Where datasets live: detectron2's `$DETECTRON2_DATASETS`, by default `datasets`."""

import os
from pathlib import Path


def datasets_root() -> Path:
    """The folder of all datasets, read anew at each call so that no import order matters."""
    return Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser()
