"""`train.compile`: torch.compile on encoder and decoder layers; docs/training.md says why these."""

import os
import shutil

import torch
from torch import nn
from torch.fx.experimental import _config as shapes_config

from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.modeling.detectors.dab_detr.transformer import (
    ConditionalDecoderLayer,
    DenseEncoderLayer,
)
from projects.clockdistill.modeling.detectors.multi_scale.transformer import (
    DeformableDecoderLayer,
    DeformableEncoderLayer,
)

LAYERS = (
    DeformableEncoderLayer,
    DeformableDecoderLayer,
    DenseEncoderLayer,
    ConditionalDecoderLayer,
)
# One class of layer has a graph for the teacher, the student and evaluation, and again for sizes
# that torch treats as constants (0 and 1). torch's own limit of 8 is too low for a decoder layer.
MAX_GRAPHS = 64


def check_compiler(device: str) -> None:
    """Checks that there is what torch.compile builds its kernels with.

    Args:
        device: `train.device`.

    Raises:
        ConfigError: if there is none.
    """
    on_gpu = torch.device(device).type == "cuda"
    variable, names = ("CC", ("gcc", "clang")) if on_gpu else ("CXX", ("g++",))
    if not any(map(shutil.which, (os.environ.get(variable, ""), *names))):
        raise ConfigError(
            f"train.compile=True, but no compiler ({', '.join(names)}) was found.\n"
            f"Fix: install one, name it in the environment variable {variable}, or set "
            "train.compile=False"
        )


def compile_model(model: nn.Module, backend: str = "inductor") -> None:
    """Lets each encoder and decoder layer compile itself when it first runs.

    State-dict keys and forward hooks stay as they are; a copy of the model, such as the moving
    average, is not compiled. Images and numbers of objects may change their sizes without another
    compilation. The layers of one class share their graphs, which a whole encoder would repeat.

    Args:
        model: a detector or a distillation model, without a wrapper for several processes.
        backend: of torch.compile.

    Raises:
        ConfigError: if the model has no such layers.
    """
    torch._dynamo.config.cache_size_limit = MAX_GRAPHS
    torch._dynamo.config.specialize_float = True  # none changes; tracing takes a quarter less
    # Otherwise sizes that happen to be equal in the first step (objects and images, say) must stay
    # equal.
    shapes_config.use_duck_shape = False
    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    if not layers:
        raise ConfigError(
            "train.compile=True, but the model has no encoder or decoder layers of this project.\n"
            "Fix: set train.compile=False"
        )
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)
