"""Hugging Face transformers' detectors of our sizes, with random weights and without a download."""

import importlib
from types import ModuleType

from torch import nn

from benchmarks.scale import Scale

NUM_CLASSES = 80
# stages of the ResNet that a detector reads
_OUT_FEATURES = {"deformable_detr": ["stage2", "stage3", "stage4"], "dab_detr": ["stage4"]}
_CLASSES = {"deformable_detr": "DeformableDetr", "dab_detr": "DabDetr"}
_FEEDFORWARD = {"deformable_detr": 1024, "dab_detr": 2048}


def check_importable() -> None:
    """Imports transformers.

    Raises:
        ImportError: saying how to install it.
    """
    _transformers()


def detector(family: str, scale: Scale) -> nn.Module:
    """A detector on a ResNet-50, in eval mode, of the sizes of `benchmarks.models.tree`.

    Its defaults are the papers' as ours: one stage, no refinement, 300 queries, six layers.

    Args:
        family: "deformable_detr" or "dab_detr".
        scale: how large.
    """
    transformers = _transformers()
    sizes = dict(encoder_ffn_dim=_FEEDFORWARD[family], decoder_ffn_dim=_FEEDFORWARD[family])
    if scale.small_models:
        sizes = dict(
            num_queries=12,
            encoder_layers=2,
            decoder_layers=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
        )
    config = getattr(transformers, f"{_CLASSES[family]}Config")(
        backbone_config=transformers.ResNetConfig(out_features=_OUT_FEATURES[family]),
        num_labels=NUM_CLASSES,
        auxiliary_loss=False,
        **sizes,
    )
    return getattr(transformers, f"{_CLASSES[family]}ForObjectDetection")(config).eval()


def _transformers() -> ModuleType:
    try:
        module = importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError(f"{error}; pip install -e '.[bench]' brings it") from error
    if int(module.__version__.partition(".")[0]) < 5:
        raise ImportError(
            f"transformers {module.__version__} is too old: pip install 'transformers>=5'"
        )
    return module
