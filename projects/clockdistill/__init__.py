"""CLoCKDistill: location- and context-aware knowledge distillation for DETRs (arXiv:2502.10683)."""

import warnings

__version__ = "0.1.0"

# detectron2 compiles a few functions at import in a way that torch calls deprecated each time
warnings.filterwarnings("ignore", "`torch.jit.script", FutureWarning)
