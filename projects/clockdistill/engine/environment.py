"""Commit, versions and machine of a run."""

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from projects.clockdistill.engine.config_file import ROOT
from projects.clockdistill.engine.jobs import cpu_count

_PACKAGES = ("clockdistill", "torch", "torchvision", "detectron2", "numpy", "hotcoco")


def commit() -> str:
    """Returns the repository's commit, with "+changes" if tracked files differ from it.

    Tables of results do not count: reproduce.py writes them while it runs.
    """
    results = ":(exclude)reproduction/results"
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", results)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}+changes" if changed else name


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@functools.cache
def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that figures depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


@functools.cache
def machine() -> str:
    """Returns the processor, the number of usable cores, and the accelerators."""
    parts = [f"{_processor()}, {cpu_count()} cores"]
    if torch.cuda.is_available():
        parts += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(parts)


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
