"""Data: read, check, draw and register. Importing it registers the datasets, touching no file."""

from .kitti import register_kitti
from .kitti_presets import PRESETS
from .root import datasets_root
from .synthkitti.tree import ensure_tree


def _synthkitti_root():
    return ensure_tree(datasets_root() / "synthkitti")


for _preset in PRESETS:
    # The default preset carries the plain name: kitti_train, kitti_val.
    register_kitti("kitti" if _preset == "kitti7" else _preset, _preset)
register_kitti("synthkitti", "kitti7", root=_synthkitti_root)
