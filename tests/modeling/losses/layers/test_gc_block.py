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


def test_adds_one_vector_to_every_cell_and_nothing_to_padding():
    block = GcBlock(4)
    torch.nn.init.normal_(block.transform[-1].weight)
    x, valid = torch.randn(1, 4, 3, 5), torch.ones(1, 1, 3, 5, dtype=torch.bool)
    valid[..., 4] = False
    out = block(x, valid)
    added = (out - x)[..., :4]
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added))
    assert added.abs().sum() > 0 and not out[..., 4].any()
