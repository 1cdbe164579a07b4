"""Settings of the fuzz tests: the same examples in every run, and as many as one wants.

CLOCKDISTILL_FUZZ_EXAMPLES=10000 pytest -k fuzz
"""

import os

from hypothesis import HealthCheck, settings

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
