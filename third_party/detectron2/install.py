"""Installs a pure-Python detectron2 0.6 into the environment of the Python that runs this.

    python third_party/detectron2/install.py [--sdist FILE] [--constraint FILE] [--wheel-only DIR]

An installed detectron2 is left untouched. README.md in this folder gives details.
"""

import argparse
import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from patches import PATCHES, apply
from sdist import FILE_NAME, SHA256, obtain, unpack, verify
from wheel_file import write_wheel

VERSION = "0.6+clockdistill.1"  # raise the last number with every change of what is built
UPSTREAM = "https://github.com/facebookresearch/detectron2"

# Upstream's requirements without its upper bounds of 2021 and without "future" and "pydot", which
# only caffe2 needed. torch and torchvision, which upstream leaves to the user, are what it imports.
# As upstream, OpenCV is the user's choice among its packages.
REQUIRES = (
    "torch>=1.8",
    "torchvision",
    "numpy",
    "Pillow>=7.1",
    "matplotlib",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "tensorboard",
    "fvcore>=0.1.5",
    "iopath>=0.1.7",
    "omegaconf>=2.1",
    "hydra-core>=1.1",
    "black",  # LazyConfig.to_py
)


def find_installed() -> str | None:
    """Describes the detectron2 that this Python imports, or None.

    A wheel of this recipe with another version than `VERSION` counts as none: it is replaced.
    """
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:
        return None
    try:
        version = importlib.metadata.version("detectron2")
    except importlib.metadata.PackageNotFoundError:
        version = "without metadata"
    if "+clockdistill." in version and version != VERSION:
        return None
    return f"detectron2 {version} at {Path(spec.origin).parent}"


def build_wheel(archive: bytes, folder: Path) -> Path:
    """Patches the package of the archive and writes it as a wheel.

    Raises:
        ValueError: if the archive lacks a package or a patch does not match as expected.
    """
    files, licence = unpack(archive)
    files, changed = apply(files, PATCHES)
    stand_in = Path(__file__).with_name("no_compiled_ops.py").read_bytes()
    files["detectron2/_C.py"] = stand_in
    licences = {"LICENSE": licence, "NOTICE": _notice(changed).encode()}
    return write_wheel(folder, "detectron2", VERSION, REQUIRES, files, licences)


def _notice(changed: list[str]) -> str:
    lines = [
        "detectron2 0.6, Copyright (c) Facebook, Inc. and its affiliates, Apache License 2.0.",
        f"Upstream: {UPSTREAM}",
        f"Built from {FILE_NAME}, sha256 {SHA256}.",
        "",
        "Changed against that archive when this wheel was built for clockdistill:",
        "- added detectron2/_C.py: a stand-in for the compiled operators, which are not built",
        "- added the three projects that upstream's setup.py installs as detectron2.projects.*",
        "- taken off: upper bounds of the required versions, and requirements of caffe2",
    ]
    for patch in PATCHES:
        lines.append(f"- {patch.name}: {patch.reason}, in {', '.join(sorted(patch.places))}")
    lines += ["", "Changed files, each with a first line that says so:"]
    lines += [f"  {path}" for path in changed]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line.

    Raises:
        SystemExit: with a message, if the archive is not found or is not the expected one.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sdist", type=Path, help=f"a copy of {FILE_NAME}, instead of a download")
    parser.add_argument("--constraint", type=Path, help="constraints file for the dependencies")
    parser.add_argument("--wheel-only", type=Path, help="write the wheel there, install nothing")
    options = parser.parse_args(arguments)

    installed = None if options.wheel_only else find_installed()
    if installed:
        print(f"{installed}: used as it is")
        return
    try:
        if options.sdist:
            archive = verify(options.sdist.read_bytes(), str(options.sdist))
        else:
            archive = obtain()
        with tempfile.TemporaryDirectory() as temporary:
            wheel = build_wheel(archive, options.wheel_only or Path(temporary))
            print(f"built {wheel.name} with {len(PATCHES)} patches")
            if not options.wheel_only:
                _pip_install(wheel, options.constraint)
    except (OSError, ValueError) as error:
        sys.exit(f"detectron2: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"detectron2: pip ended with exit code {error.returncode}")


def _pip_install(wheel: Path, constraint: Path | None) -> None:
    constraints = ["--constraint", str(constraint)] if constraint else []
    command = [sys.executable, "-m", "pip", "install", "--quiet", *constraints, str(wheel)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
