"""Commands that call the project's tools, and a type of their options."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "tools"
CONFIGS = ROOT / "projects/clockdistill/configs"


def tool_command(tool: str, config: str | Path, *arguments: str) -> tuple[str, ...]:
    """The command that calls a tool on a config.

    Args:
        tool: a file of tools/, without ".py".
        config: a config file; relative to `CONFIGS`.
        arguments: whatever else.
    """
    script = str(TOOLS / f"{tool}.py")
    return (sys.executable, script, "--config-file", str(CONFIGS / config), *arguments)


def shown(command: Sequence[str]) -> str:
    """A command as one writes it in the current folder, without the paths of this machine."""
    here = f"{Path.cwd()}/"
    words = ["python" if word == sys.executable else word.replace(here, "") for word in command]
    return shlex.join(words)


def positive_int(text: str) -> int:
    """Returns a whole number of the command line that is at least 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return int(text)
