"""The code of others that the project is compared with."""

import importlib

from projects.clockdistill.configs.models.detrex import HOW_TO_INSTALL
from projects.clockdistill.errors import UserError

_EXTRA = "Fix: pip install -e '.[bench]'"
# what is imported, and what to do if that fails; the project itself is compared with pycocotools
OPPONENTS = {
    "self": (("pycocotools.cocoeval",), _EXTRA),
    "detrex": (("detrex.layers", "projects.dino.modeling"), HOW_TO_INSTALL),
    "transformers": (("transformers",), _EXTRA),
}


def check_importable(opponent: str) -> None:
    """Imports what a comparison needs.

    Raises:
        UserError: with the fix.
    """
    modules, fix = OPPONENTS[opponent]
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{error}. {fix}") from error
