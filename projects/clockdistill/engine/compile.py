"""`train.compile`: torch.compile on the parts that take most of a step."""

import os
import shutil

import torch
from torch import nn
from torch.fx.experimental import _config as shapes_config

from projects.clockdistill.engine.config_file import ConfigError

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
    variable, names = ("CC", ("gcc", "clang", "cc")) if on_gpu else ("CXX", ("g++",))
    if not any(map(shutil.which, (os.environ.get(variable, ""), *names))):
        raise ConfigError(
            f"train.compile=True, but no compiler ({', '.join(names)}) was found.\n"
            f"Fix: install one, name it in the environment variable {variable}, or set "
            "train.compile=False"
        )


def compile_model(model: nn.Module, backend: str = "inductor") -> None:
    """Lets backbones, encoder layers and decoder layers compile themselves when they first run.

    Modules, state-dict keys and forward hooks stay as they are; a copy of the model, such as the
    moving average, is not compiled. Images and numbers of objects may change their sizes without
    another compilation. Everything else stays as it is: the matching runs on the host, and the
    hooks between the layers read, append and stop.

    Args:
        model: a detector or a distillation model, without a wrapper for several processes.
        backend: of torch.compile.
    """
    torch._dynamo.config.cache_size_limit = MAX_GRAPHS
    torch._dynamo.config.specialize_float = True  # none changes; tracing takes a quarter less
    # Otherwise sizes that happen to be equal in the first step (objects and images, say) must stay
    # equal.
    shapes_config.use_duck_shape = False
    detectors = [model.student, model.teacher] if hasattr(model, "teacher") else [model]
    for detector in detectors:
        detector.backbone.compile(backend=backend, dynamic=True)
        transformer = getattr(detector, "transformer", None)
        if transformer is None:
            continue
        # All layers of one class share their graphs, which a whole encoder would repeat.
        for layer in (*transformer.encoder.layers, *transformer.decoder.layers):
            layer.compile(backend=backend, dynamic=True)
