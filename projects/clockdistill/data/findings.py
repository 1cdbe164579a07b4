"""What a check of a dataset found."""

import collections
from collections.abc import Iterable

_SHOWN = 10  # places of one kind that a message lists


class Findings:
    """Errors, warnings and counts of one dataset.

    Attributes:
        errors: messages that end the run.
        warnings: messages that are logged; the run goes on.
        counts: what was left out or changed, in words -> how often; rows of the check's table.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()

    def error(self, message: str) -> None:
        """Adds what ends the run: what was found, what was expected, "Fix: ..."."""
        self.errors.append(message)

    def warn(self, message: str) -> None:
        """Adds what the user should look at."""
        self.warnings.append(message)

    def count(self, what: str, number: int = 1) -> None:
        """Adds to a row of the table, for example "boxes clipped to their image"."""
        if number:
            self.counts[what] += number


def some(items: Iterable) -> str:
    """Returns the first items as text, and how many more there are."""
    items = [str(item) for item in items]
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
