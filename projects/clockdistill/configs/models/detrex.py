"""Configs of real detrex's detectors, adapted to ours. Nothing of detrex is imported.

Setup, with a checkout of github.com/IDEA-Research/detrex (commit e244e6c or later):

    pip install 'setuptools<82' timm einops fairscale wandb
    export PYTHONPATH=<the checkout>

`setuptools` must still have pkg_resources, which detrex imports. Build detrex's operators as its
README says; on a CPU they are not used, and an empty file detrex/_C.py is enough. Both checkouts'
`projects` are found, because ours is a namespace package and detrex's has no `__init__.py` either.
"""

import copy

from omegaconf import DictConfig

from .parts import FEATURES, STAGES, resnet_channels

HOW_TO_INSTALL = (
    "real detrex is needed: pip install 'setuptools<82' timm einops fairscale wandb, and export "
    "PYTHONPATH=<a checkout of github.com/IDEA-Research/detrex>; on a CPU also touch "
    "$PYTHONPATH/detrex/_C.py"
)


def tied(detector: DictConfig) -> DictConfig:
    """Returns a copy whose device and number of classes follow our config.

    detrex's detectors are built for a device, and some of its configs give the number of classes
    to detector and criterion separately.

    Args:
        detector: a detrex detector's config; detrex's modules are imported once, so it is not
            changed.
    """
    detector = copy.deepcopy(detector)
    detector.device = "${train.device}"
    detector.criterion.num_classes = "${..num_classes}"
    return detector


def with_resnet(detector: DictConfig, depth: int) -> DictConfig:
    """Returns a copy of a ResNet detector's config with a backbone of another depth.

    Args:
        detector: a detrex detector's config.
        depth: 18, 34, 50, 101 or 152.
    """
    detector = copy.deepcopy(detector)
    detector.backbone.stages.depth = depth
    if depth < 50:
        del detector.backbone.stages.stride_in_1x1  # basic blocks have no such option
    channels = dict(zip(STAGES, resnet_channels(depth), strict=True))
    if "neck" in detector:
        detector.neck.input_shapes = {name: {"channels": channels[name]} for name in FEATURES}
    else:
        detector.in_channels = channels[detector.in_features[-1]]
    return detector
