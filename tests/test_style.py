"""Tests the rules of the code style that ruff cannot check."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Words of a private English. Each pattern is written so that it does not match itself.
BANNED = re.compile(
    r"\bmend|\blend|\btaps?\b|\btwins?\b|\bafresh\b|\banew\b|\blearnt\b|\btaught\b"
    r"|piece +by +piece|see +there|do +not +part|for +want +of",
    re.IGNORECASE,
)
DOUBLE_BACKTICKS = re.compile("(?<!`)`{2}(?!`)")


def matches(pattern: re.Pattern, *globs: str) -> list[str]:
    """Returns `file:line: text` of every match in the tracked files."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", *globs]
    files = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in files.split("\0") if name and (ROOT / name).is_file()]
    assert paths
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]


def test_words_are_those_of_the_field():
    assert matches(BANNED, "*.py", "*.md") == []


def test_code_in_docstrings_has_single_backticks():
    assert matches(DOUBLE_BACKTICKS, "*.py") == []
