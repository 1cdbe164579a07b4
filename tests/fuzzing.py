"""Settings of the fuzz tests: the same examples in every run, and as many as one wants.

CLOCKDISTILL_FUZZ_EXAMPLES=10000 pytest -k fuzz
"""

import os
from collections.abc import Mapping

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

VARIABLE = "CLOCKDISTILL_FUZZ_EXAMPLES"


def fuzz(examples: int) -> settings:
    """Returns hypothesis' settings of a fuzz test; the variable replaces the number of examples.

    Args:
        examples: number of examples where the variable is not set, as in CI.
    """
    return settings(
        max_examples=int(os.environ.get(VARIABLE, examples)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw: st.DrawFn, files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Draws one of the files, by name, and a content with changed, missing or additional bytes."""
    name = draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(content)))
        piece = draw(st.binary(max_size=6))
        kind = draw(st.sampled_from(("replace", "insert", "cut", "remove")))
        if kind == "replace":
            content[place : place + len(piece)] = piece
        elif kind == "insert":
            content[place:place] = piece
        elif kind == "cut":
            del content[place:]
        else:
            del content[place : place + draw(st.integers(1, 40))]
    return name, bytes(content)
