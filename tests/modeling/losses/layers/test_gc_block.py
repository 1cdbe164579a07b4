"""Global context block; FGD's test holds it against its equation."""

import torch

from projects.clockdistill.modeling.losses.layers.gc_block import GcBlock


def test_starts_as_the_identity_and_can_leave_it():
    block = GcBlock(4)
    x, valid = torch.randn(2, 4, 3, 5), torch.ones(2, 1, 3, 5, dtype=torch.bool)
    out = block(x, valid)
    torch.testing.assert_close(out, x)
    out.square().sum().backward()
    assert block.transform[-1].weight.grad.any()
