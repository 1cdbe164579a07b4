"""Holds the room table: which part of the project may import which other.

Every import statement is read from the source, also those inside functions and those that never
run; nothing is imported. A new room or a new door is a change of the tables below.
"""

import ast
import itertools
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "projects.clockdistill"

# room -> what it may import from us, itself only where it says so. The longest name that fits a
# module is its room. A package's __init__.py may also export what lies in that package.
ROOMS = {
    "": [],
    "data": ["data"],
    "modeling": [],
    # what detectors predict has one shape, which distillation shares; nothing goes the other way
    "modeling.structures": ["modeling.detectors.predictions"],
    # geometry of boxes that losses and token weights share; draws that a resumed run repeats
    "modeling.box_masks": [],
    "modeling.step_random": [],
    "modeling.losses": ["modeling.losses.layers", "modeling.box_masks", "modeling.step_random"],
    "modeling.losses.feature": ["modeling.losses"],
    "modeling.detectors": ["modeling.detectors"],
    "modeling.detectors.layers.deformable_detrex": [],  # detrex's CUDA operator alone
    "modeling.adapters": [
        "modeling.adapters",
        "modeling.structures",
        "modeling.detectors.predictions",
        "modeling.detectors.layers",  # to read a stage's boxes as the detector itself does
    ],
    "modeling.crop_classifier": ["modeling.detectors"],
    "modeling.replay": [],
    "modeling.taps": [
        "modeling.structures",
        "modeling.detectors.predictions",
        "modeling.replay",
    ],
    "modeling.teacher_cache": ["modeling.structures"],
    "modeling.query_groups": ["modeling.structures", "modeling.step_random"],
    "modeling.token_weights": ["modeling.structures", "modeling.box_masks"],
    "modeling.class_map": [],
    "modeling.pair_checks": ["modeling.adapters", "modeling.query_groups"],
    "modeling.meta_arch": ["modeling"],
    "analysis": ["analysis", "modeling.detectors.layers"],
    "calibration": ["calibration"],
    "evaluation": [],
    "visualization": [],
    "engine": ["engine", "evaluation"],
    "reproduction": ["reproduction", "engine", "evaluation", "visualization"],
    # leaves and trees name the classes that they configure; experiments compose configs
    "configs": ["configs"],
    # distils real detrex's models: they import other projects
    "configs.detrex": ["configs"],
    "configs.common": ["configs.common", "data", "engine", "evaluation"],
    "configs.models": ["configs.models", "modeling"],
}

# room -> what it may import of other projects; they are not declared, since all works without them
FOREIGN = {
    "configs.detrex": ["projects", "detrex"],
    "modeling.detectors.layers.deformable_detrex": ["detrex._C"],
}


def is_in(module: str, room: str) -> bool:
    return room == "" or module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str:
    """The room of a module, both named below the package."""
    return max((room for room in ROOMS if is_in(module, room)), key=len)


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yields line and full name of every module that a source imports.

    For `from a import b` that is `a.b`: b may be a module.
    """
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, name if alias.name == "*" else f"{name}.{alias.name}"


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module of the package imports against the table, as `line: message`."""
    below = module[len(PACKAGE) :].lstrip(".")
    room = room_of(below)
    allowed = [*ROOMS[room], *([below] if is_package and below else [])]
    found = []
    for line, name in imports(source, module, is_package):
        if is_in(name, PACKAGE):
            target = name[len(PACKAGE) :].lstrip(".")
            if not any(is_in(target, other) for other in allowed):
                found.append(f"{line}: {module} ({room or 'package'}) imports {name}")
        elif any(is_in(name, other) for other in ("projects", "detrex")) and not any(
            is_in(name, other) for other in FOREIGN.get(room, [])
        ):
            found.append(f"{line}: {module} imports {name} of another project")
    return found


def sources(pattern: str) -> list[Path]:
    paths = sorted(ROOT.glob(pattern))
    assert paths, f"no source at {pattern}"
    return paths


def module_of(path: Path) -> tuple[str, bool]:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    is_package = parts[-1] == "__init__"
    return ".".join(parts[:-1] if is_package else parts), is_package


def test_every_import_uses_a_door_of_the_room_table():
    found = []
    for path in sources("projects/**/*.py"):
        module, is_package = module_of(path)
        found += violations(path.read_text(), module, is_package)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("data.mapper", "from projects.clockdistill.modeling.structures import EncoderOutput"),
        ("data.mapper", "import projects.clockdistill.engine.ema"),
        ("modeling.detectors.dino", "from ..taps import EncoderTap"),
        ("modeling.detectors.layers.attention", "from ... import meta_arch"),
        ("modeling.losses.memory", "from .logits import LogitLoss"),
        ("modeling.losses.memory", "from ..structures import EncoderOutput"),
        ("modeling.structures", "def f():\n    from .losses import memory"),
        ("modeling.adapters", "from .taps import EncoderTap"),
        ("modeling.taps", "if False:\n    from . import token_weights"),
        ("modeling.meta_arch", "from ..data import mapper"),
        ("evaluation.coco", "from ..data.kitti import register"),
        ("engine.trainer", "from ..modeling.meta_arch import DistillMetaArch"),
        ("engine.checkpoint", "from projects.clockdistill.data import *"),
        ("configs.dino_r18_kitti", "from ..modeling.meta_arch import DistillMetaArch"),
        ("configs.common.optim", "from ...modeling.detectors.dino import DINO"),
        ("configs.models.dino", "from ..common.train import train"),
        ("modeling.detectors.dino", "from detrex.layers import MLP"),
        ("modeling.detectors.dino", "from projects.dino.modeling import DINO"),
        ("modeling.adapters.detrex", "import detrex"),
        ("modeling.detectors.layers.deformable_detrex", "from detrex.layers import MLP"),
        ("configs.models.detrex", "from projects.dino.modeling import DINO"),
    ],
)
def test_the_checker_finds_a_forbidden_import(module, source):
    assert len(violations(source, f"{PACKAGE}.{module}")) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("data.mapper", "from .kitti import register"),
        ("modeling.detectors.layers.attention", "from . import boxes\nfrom ..matcher import x"),
        ("modeling.adapters", "import torch\nfrom .structures import EncoderOutput"),
        ("modeling.losses.fgd", "from .layers import gc_block\nfrom ..box_masks import box_masks"),
        ("modeling.meta_arch", "from .losses.memory import MemoryDistillLoss"),
        ("engine.trainer", "from .ema import ModelEma\nfrom detectron2.engine import hooks"),
        ("configs.teachers.dino_r50_kitti", "from ..common.kitti import dataloader"),
        ("configs.models.distill", "from ...modeling.meta_arch import DistillMetaArch"),
        ("configs.detrex.dino_r18_coco", "from projects.dino.configs.models.dino_r50 import model"),
        ("modeling.detectors.layers.deformable_detrex", "from detrex import _C"),
    ],
)
def test_the_checker_lets_a_door_pass(module, source):
    assert violations(source, f"{PACKAGE}.{module}") == []


def test_an_init_may_export_its_own_package_and_no_other():
    module = f"{PACKAGE}.modeling.losses"
    assert violations("from .memory import MemoryDistillLoss", module, is_package=True) == []
    assert len(violations("from ..taps import EncoderTap", module, is_package=True)) == 1


def test_projects_stays_a_namespace_package():
    # an __init__.py would hide the projects of every other checkout
    assert not (ROOT / "projects" / "__init__.py").exists()


def test_every_third_party_import_is_a_declared_dependency():
    text = (ROOT / "pyproject.toml").read_text()
    runtime = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL).group(1)
    declared = {name.lower() for name in re.findall(r'^\s*"([\w-]+)', runtime, re.MULTILINE)}
    distributions = packages_distributions()
    found = []
    patterns = ("projects/**/*.py", "datasets/*.py", "tools/*.py", "benchmarks/**/*.py")
    for path in itertools.chain.from_iterable(map(sources, patterns)):
        for line, name in imports(path.read_text(), *module_of(path)):
            top = name.partition(".")[0]
            ours = top in ("projects", "tools", "datasets") or (path.parent / f"{top}.py").exists()
            # benchmarks know the package, never the other way round
            ours |= top == "benchmarks" == path.relative_to(ROOT).parts[0]
            if ours or top in sys.stdlib_module_names or top in ("detectron2", "detrex"):
                continue
            names = {n.lower().replace("_", "-") for n in distributions.get(top, [])}
            if not names & declared:
                found.append(f"{path.relative_to(ROOT)}:{line}: {top} is not declared")
    assert not found, "\n".join(found)


def device_literals(source: str) -> list[int]:
    """Lines with `.cuda()` or a string that names a CUDA device."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        is_call = isinstance(node, ast.Attribute) and node.attr == "cuda"
        is_name = isinstance(node, ast.Constant) and re.fullmatch(r"cuda(:\d+)?", str(node.value))
        if is_call or is_name:
            lines.append(node.lineno)
    return lines


def test_models_name_no_device():
    # detrex's own moves to CUDA are met in one place, which must name what it meets
    paths = set(sources("projects/clockdistill/modeling/**/*.py"))
    paths.remove(ROOT / "projects/clockdistill/modeling/adapters/detrex.py")
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(paths)
        for line in device_literals(path.read_text())
    ]
    assert not found, "\n".join(found)


def test_the_device_check_finds_literals():
    assert device_literals('x.cuda()\ny.to("cuda:1")\nz = "barracuda"\n') == [1, 2]


FORBIDDEN_IN_EXPERIMENTS = (
    ast.AsyncFor | ast.ClassDef | ast.For | ast.FunctionDef | ast.Lambda | ast.While
)


def too_clever(source: str) -> list[str]:
    """What an experiment holds beyond a change of values: at most 30 lines, no code."""
    tree = ast.parse(source)
    found = [
        f"{node.lineno}: {type(node).__name__}"
        for node in ast.walk(tree)
        if isinstance(node, FORBIDDEN_IN_EXPERIMENTS)
    ]
    if not ast.get_docstring(tree):
        found.append("1: no header")
    if len(source.splitlines()) > 30:
        found.append("31: more than 30 lines")
    return found


def test_experiments_only_change_values():
    configs = ROOT / PACKAGE.replace(".", "/") / "configs"
    found = [
        f"{path.relative_to(ROOT)}:{message}"
        for path in sources(f"{configs.relative_to(ROOT)}/**/*.py")
        if path.relative_to(configs).parts[0] not in ("common", "models")
        for message in too_clever(path.read_text())
    ]
    assert not found, "\n".join(found)


def test_the_experiment_check_finds_code():
    assert too_clever('"""Header."""\nfrom .a import b\nb.c = 1\n') == []
    assert too_clever("f = lambda: 0\n" + "x = 1\n" * 30) == [
        "1: Lambda",
        "1: no header",
        "31: more than 30 lines",
    ]
