"""What every test starts from: one torch thread and one seed."""

import pytest
import torch

torch.set_num_threads(1)  # tests run in several processes


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
