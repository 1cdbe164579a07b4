"""Collects as wheels what benchmarks/gpu.py needs besides torch and torchvision.

    python benchmarks/wheelhouse.py --python 3.12 --into wheelhouse

The list is that of the installed environment: what this project and detectron2 require and torch
and torchvision do not bring, without the packages of `SKIPPED`. Versions are those of
constraints.txt.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 50e6  # bytes of all wheels
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
BROUGHT = ("torch", "torchvision")
SKIPPED = {
    "black": "writes configs as Python",
    "grpcio": "TensorBoard's server; training writes files",
    "markdown": "TensorBoard's server",
    "matplotlib": "plots",
    "numba": "sampling on the CPU, where grid_sample runs without",
    "opencv-python-headless": "draws synthkitti; take a drawn tree along",
    "tensorboard-data-server": "TensorBoard's server",
    "werkzeug": "TensorBoard's server",
}


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default="3.12", help="of the other machine (%(default)s)")
    parser.add_argument("--into", type=Path, default=ROOT / "wheelhouse", help="a folder of wheels")
    arguments = parser.parse_args(argv)
    try:
        collect(arguments.python, arguments.into)
    except (subprocess.CalledProcessError, ValueError) as error:
        sys.exit(f"wheelhouse: {error}")


def collect(python: str, folder: Path) -> None:
    """Writes all wheels into a folder, which is emptied before.

    Raises:
        ValueError: if a package has neither a wheel for that Python nor is pure Python, or if all
            together exceed `LIMIT`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = needed(["clockdistill", "detectron2"], {*SKIPPED, *needed(BROUGHT, ())})
    names = sorted(names - {"clockdistill", "detectron2"})
    platforms = [option for name in PLATFORMS for option in ("--platform", name)]
    constraint = ("--constraint", str(ROOT / "constraints.txt"))
    target = ("--python-version", python, "--implementation", "cp", *platforms)
    _pip("download", "--no-deps", "--dest", str(folder), *target, *constraint, *names)
    for archive in sorted(folder.glob("*.tar.gz")):  # of a package without wheels
        _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(archive))
        archive.unlink()
    builder = ROOT / "third_party" / "detectron2" / "install.py"
    subprocess.run([sys.executable, str(builder), "--wheel-only", str(folder)], check=True)
    check(folder, python)


def needed(roots: Iterable[str], without: Collection[str]) -> set[str]:
    """Returns installed packages and all that they require, except some and what only those need.

    Extras do not count. A requirement that is not installed is for another system.
    """
    found: set[str] = set()
    pending = list(roots)
    while pending:
        name = pending.pop()
        if name in found or name in without:
            continue
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        found.add(name)
        pending += [_normal(line) for line in lines if "extra ==" not in line]
    return found


def _normal(requirement: str) -> str:
    """Returns the name at the start of a requirement, in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def check(folder: Path, python: str) -> None:
    """Prints the wheels with their sizes.

    Raises:
        ValueError: if one is for another Python, or all together exceed `LIMIT`.
    """
    wheels = sorted(folder.iterdir())
    for wheel in wheels:
        print(f"{wheel.stat().st_size / 1e6:6.2f} MB  {wheel.name}")
        pure = wheel.name.endswith("-none-any.whl")
        if not pure and "manylinux" not in wheel.name:
            raise ValueError(
                f"{wheel.name} was built for this machine, not for Python {python} on any Linux. "
                "Fix: choose a version of which the index has wheels"
            )
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{size / 1e6:6.2f} MB  {len(wheels)} wheels for Python {python} in {folder}")
    if size > LIMIT:
        raise ValueError(f"{size / 1e6:.1f} MB are more than {LIMIT / 1e6:.0f} MB")


def _pip(command: str, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", command]
    subprocess.run([*pip, *arguments], check=True)


if __name__ == "__main__":
    main()
