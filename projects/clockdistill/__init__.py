"""CLoCKDistill: location- and context-aware knowledge distillation for DETRs (arXiv:2502.10683)."""

import warnings
from typing import Any

__version__ = "0.1.0"

# detectron2 compiles a few functions at import in a way that torch calls deprecated each time
warnings.filterwarnings("ignore", "`torch.jit.script", FutureWarning)


def __getattr__(name: str) -> Any:
    """Imports `Predictor`, and with it torch and detectron2, when it is first read."""
    if name == "Predictor":
        from projects.clockdistill.deployment.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
