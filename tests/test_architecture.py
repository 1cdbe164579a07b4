"""Rules of the source tree, read from the source; nothing is imported."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "projects/clockdistill"
OURS = "projects.clockdistill"
# folder of the package -> what it and the folders in it must not import
FORBIDDEN = {
    "": ["benchmarks", "reproduction", "tools", "tests"],
    "modeling": [f"{OURS}.engine", f"{OURS}.data", f"{OURS}.evaluation", f"{OURS}.configs"],
    "modeling/detectors": [
        f"{OURS}.modeling.{name}"
        for name in ("adapters", "hooks", "losses", "meta_arch", "query_groups", "token_weights")
    ],
    "evaluation": [f"{OURS}.engine"],
}


def sources(*folders: str) -> list[Path]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert paths, f"no source in {folders}"
    return paths


def imports(source: str, package: str = "") -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a source imports; `from a import b` is a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


def violations(source: str, folder: str, package: str = "") -> list[str]:
    """Imports against `FORBIDDEN` of a source in a folder of the package."""
    forbidden = [
        name
        for rule, names in FORBIDDEN.items()
        if not rule or folder == rule or folder.startswith(f"{rule}/")
        for name in names
    ]
    return [
        f"{line}: imports {name}"
        for line, name in imports(source, package)
        if any(is_in(name, other) for other in forbidden)
    ]


def test_imports_follow_the_rules():
    found = [
        f"{path.relative_to(ROOT)}:{message}"
        for path in sources(PACKAGE)
        for message in violations(
            path.read_text(),
            path.parent.relative_to(ROOT / PACKAGE).as_posix(),
            package_of(path),
        )
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("data", "import benchmarks.run"),
        ("modeling", "from projects.clockdistill.engine.ema import ModelEma"),
        ("modeling/losses", "def f():\n    from projects.clockdistill import data"),
        ("modeling/detectors/dino", "from projects.clockdistill.modeling.hooks import x"),
        ("modeling/detectors/layers", "from projects.clockdistill.modeling import losses"),
    ],
)
def test_a_forbidden_import_is_found(folder, source):
    assert len(violations(source, folder)) == 1


def test_projects_stays_a_namespace_package():
    # an __init__.py would hide the projects of every other checkout
    assert not (ROOT / "projects" / "__init__.py").exists()


def test_every_third_party_import_is_a_declared_dependency():
    text = (ROOT / "pyproject.toml").read_text()
    runtime = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL).group(1)
    declared = {name.lower() for name in re.findall(r'^\s*"([\w-]+)', runtime, re.MULTILINE)}
    known = {"projects", "benchmarks", "reproduction", "datasets", "tools", "detectron2"}
    known |= {"detrex", "mlflow", "triton", "wandb"}  # used where they are installed
    known |= sys.stdlib_module_names
    distributions = packages_distributions()
    found = []
    for path in sources("projects", "datasets", "tools", "benchmarks", "reproduction"):
        for line, name in imports(path.read_text(), package_of(path)):
            top = name.partition(".")[0]
            names = {n.lower().replace("_", "-") for n in distributions.get(top, [])}
            if top not in known and not names & declared:
                found.append(f"{path.relative_to(ROOT)}:{line}: {top} is not declared")
    assert not found, "\n".join(found)


def test_models_name_no_device():
    # detrex's own moves to CUDA are redirected in one place, which must name them; only copies to
    # CUDA are pinned; each type of device has its backend of deformable sampling
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources(f"{PACKAGE}/modeling")
        if path.name not in ("detrex.py", "transfers.py", "deformable_sampling.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"""\.cuda\(|["']cuda(:\d+)?["']""", line)
    ]
    assert not found, "\n".join(found)


def test_experiments_only_change_values():
    """An experiment has a header, at most 30 lines, and no functions, loops or lambdas."""
    code = ast.ClassDef | ast.For | ast.FunctionDef | ast.Lambda | ast.While
    configs = ROOT / PACKAGE / "configs"
    found = []
    for path in sources(f"{PACKAGE}/configs"):
        if path.relative_to(configs).parts[0] in ("common", "models"):
            continue
        module = ast.parse(path.read_text())
        is_plain = not any(isinstance(node, code) for node in ast.walk(module))
        if not (
            is_plain and ast.get_docstring(module) and len(path.read_text().splitlines()) <= 30
        ):
            found.append(str(path.relative_to(ROOT)))
    assert not found, "\n".join(found)
