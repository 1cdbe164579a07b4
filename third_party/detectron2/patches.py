"""Patches that let detectron2 v0.6 run as pure Python on current libraries.

A patch is a pattern, a replacement and the exact places that it must match. It is applied to every
Python file; any other number of matches in any file is an error, so nothing unexpected changes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Patch:
    """One change made to the sources.

    Args:
        name: short name, for messages and the NOTICE.
        reason: why the source cannot stay as it is.
        pattern: regular expression, searched in every `.py` file with `re.MULTILINE`.
        replacement: replacement template of `re.sub`.
        places: file -> number of matches expected in it; every other file must have none.
    """

    name: str
    reason: str
    pattern: str
    replacement: str
    places: Mapping[str, int]


PATCHES = (
    Patch(
        name="Image.LINEAR",
        reason="Pillow 10 removed the alias of Image.BILINEAR",
        pattern=r"\bImage\.LINEAR\b",
        replacement="Image.BILINEAR",
        places={"detectron2/data/transforms/transform.py": 1},
    ),
    Patch(
        name="numpy aliases",
        reason="numpy 1.24 removed np.bool, int, float, object and str: the builtins are meant",
        pattern=r"\bnp\.(bool|int|float|object|str)\b",
        replacement=r"\1",
        places={
            "detectron2/data/build.py": 2,
            "detectron2/data/datasets/pascal_voc.py": 1,
            "detectron2/evaluation/pascal_voc_evaluation.py": 2,
            "detectron2/evaluation/sem_seg_evaluation.py": 7,
            "detectron2/structures/masks.py": 3,
            "detectron2/utils/video_visualizer.py": 1,
            "detectron2/utils/visualizer.py": 3,
        },
    ),
    Patch(
        name="pkg_resources import",
        reason="setuptools 82 removed pkg_resources",
        pattern=r"^import pkg_resources$",
        replacement="import importlib.resources",
        places={"detectron2/model_zoo/model_zoo.py": 1},
    ),
    Patch(
        name="pkg_resources use",
        reason="importlib.resources finds the same file",
        pattern=r"pkg_resources\.resource_filename\(\s*(\S+), (.+)\s*\)$",
        replacement=r"str(importlib.resources.files(\1) / \2)",
        places={"detectron2/model_zoo/model_zoo.py": 1},
    ),
    Patch(
        name="caffe2",
        reason="torch lost caffe2: detectron2.export may import it only when its API is asked for, "
        "so that detectron2.utils.analysis imports",
        pattern=r"^from \.api import \*$",
        replacement=r"""
def __getattr__(name):
    if name in {
        "add_export_config",
        "export_caffe2_model",
        "Caffe2Model",
        "export_onnx_model",
        "Caffe2Tracer",
    }:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

""",
        places={"detectron2/export/__init__.py": 1},
    ),
)


def apply(
    files: Mapping[str, bytes], patches: Sequence[Patch]
) -> tuple[dict[str, bytes], list[str]]:
    """Applies every patch to every Python file.

    Each changed file gets a first line that says so, as section 4(b) of its licence asks.

    Args:
        files: path inside the package -> content.
        patches: applied in this order, each to the result of the previous ones.

    Returns:
        The files, patched, and the sorted paths of those that changed.

    Raises:
        ValueError: if a patch matches another number of places in a file than it expects; nothing
            is patched then.
    """
    texts = {path: data.decode() for path, data in files.items() if path.endswith(".py")}
    changed = set()
    for patch in patches:
        for path in sorted(texts.keys() | patch.places.keys()):
            text, found = re.subn(
                patch.pattern, patch.replacement, texts.get(path, ""), flags=re.MULTILINE
            )
            expected = patch.places.get(path, 0)
            if found != expected:
                raise ValueError(
                    f"patch {patch.name!r}: {path} has {found} places, expected {expected}"
                )
            if found:
                texts[path] = text
                changed.add(path)
    note = "# Changed when this wheel was built: see NOTICE beside its metadata.\n"
    patched = {path: (note + texts[path]).encode() for path in changed}
    return {**files, **patched}, sorted(changed)
