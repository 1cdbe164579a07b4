"""Data: read, check, draw and register. Importing it registers the datasets, touching no file."""

from .kitti import register_kitti
from .kitti_presets import PRESETS
from .root import datasets_root
from .synthkitti.tree import ensure_tree

TUNE_SEED = 1


def _synthkitti_root():
    return ensure_tree(datasets_root() / "synthkitti")


def _synthkitti_tune_root():
    return ensure_tree(datasets_root() / "synthkitti_tune", seed=TUNE_SEED)


for _preset in PRESETS:
    # The default preset carries the plain name: kitti_train, kitti_val.
    register_kitti("kitti" if _preset == "kitti7" else _preset, _preset)
register_kitti("synthkitti", "kitti7", root=_synthkitti_root)
# Other scenes, to choose settings on: what is reported is measured on synthkitti_val alone.
register_kitti("synthkitti_tune", "kitti7", root=_synthkitti_tune_root)
