"""Datasets: reading, checking, drawing, registering. The import registers them, reading no file."""

from projects.clockdistill.data.kitti import datasets_root, register_kitti, register_part
from projects.clockdistill.data.kitti_presets import PRESETS
from projects.clockdistill.data.synthkitti.tree import ensure_tree

TUNE_SEED, PRETRAINING_SEED = 1, 2
FEW_FRAMES = 200


for _preset in PRESETS:
    # The default preset carries the plain name: kitti_train, kitti_val.
    register_kitti("kitti" if _preset == "kitti7" else _preset, _preset)
register_kitti("synthkitti", "kitti7", root=lambda: ensure_tree(datasets_root() / "synthkitti"))
# Settings are chosen on the first of these other scenes, backbones are pre-trained on the second;
# reported figures are measured on synthkitti_val.
for _name, _seed in (
    ("synthkitti_tune", TUNE_SEED),
    ("synthkitti_pretraining", PRETRAINING_SEED),
):
    register_kitti(
        _name,
        "kitti7",
        root=lambda name=_name, seed=_seed: ensure_tree(datasets_root() / name, seed=seed),
    )
# Few labels: the first 200 training frames, and the others, of which labels are not to be used.
register_part("synthkitti_few_train", "synthkitti_train", slice(None, FEW_FRAMES))
register_part("synthkitti_rest_train", "synthkitti_train", slice(FEW_FRAMES, None))
for _frames in (50, 800):
    register_part(f"synthkitti_{_frames}_train", "synthkitti_train", slice(None, _frames))
