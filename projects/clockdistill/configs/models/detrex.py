"""Trees of real detrex's detectors, made ready for our configs. Nothing of detrex is imported.

What a user does, with a checkout of github.com/IDEA-Research/detrex (commit e244e6c or later):

    pip install 'setuptools<82' timm einops fairscale wandb
    export PYTHONPATH=<the checkout>

`setuptools` must still have pkg_resources, which detrex imports. On a GPU, build its operators as
its README says; a CPU needs none. Both checkouts' `projects` are found side by side, because ours
is a namespace package; detrex's has no `__init__.py` either.
"""

import copy

from omegaconf import DictConfig

from .parts import FEATURES, STAGES, resnet_channels

HOW_TO_INSTALL = (
    "real detrex is needed: pip install 'setuptools<82' timm einops fairscale wandb, and export "
    "PYTHONPATH=<a checkout of github.com/IDEA-Research/detrex>"
)


def is_detrex(tree: DictConfig) -> bool:
    """Whether a detector's tree names a class that is not ours."""
    target = tree["_target_"]
    module = target if isinstance(target, str) else target.__module__
    return not module.startswith("projects.clockdistill.")


def tied(tree: DictConfig) -> DictConfig:
    """A copy whose device and number of classes follow our config.

    detrex's detectors are built for a device, and some of its trees give the number of classes to
    detector and criterion separately.

    Args:
        tree: a detrex detector's tree; detrex's modules are imported once, so it stays as it is.
    """
    tree = copy.deepcopy(tree)
    tree.device = "${train.device}"
    tree.criterion.num_classes = "${..num_classes}"
    return tree


def with_resnet(tree: DictConfig, depth: int) -> DictConfig:
    """A copy of a ResNet detector's tree with a backbone of another depth.

    Args:
        tree: a detrex detector's tree.
        depth: 18, 34, 50, 101 or 152.
    """
    tree = copy.deepcopy(tree)
    tree.backbone.stages.depth = depth
    if depth < 50:
        del tree.backbone.stages.stride_in_1x1  # basic blocks have no such option
    channels = dict(zip(STAGES, resnet_channels(depth), strict=True))
    if "neck" in tree:
        tree.neck.input_shapes = {name: {"channels": channels[name]} for name in FEATURES}
    else:
        tree.in_channels = channels[tree.in_features[-1]]
    return tree
