"""Two processes, one of them without any object: the step ends and gradients agree."""

from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from tests.modeling.tiny_detectors import batch, tiny_dino
from tests.two_processes import process_group, spawn


def step(rank: int, folder: str) -> None:
    """One backward pass of rank 0 with three objects and rank 1 with none."""
    with process_group(rank, folder, minutes=1):
        model = DistributedDataParallel(tiny_dino().train(), find_unused_parameters=False)
        losses = model(batch((2, 1) if rank == 0 else (0, 0)))
        sum(losses.values()).backward()
        torch.save(
            {
                "losses": {name: loss.item() for name, loss in losses.items()},
                "gradients": {n: p.grad for n, p in model.module.named_parameters()},
            },
            Path(folder, f"rank{rank}.pth"),
        )


def test_a_rank_without_objects_neither_hangs_nor_differs(tmp_path):
    spawn(step, tmp_path)
    first, second = (torch.load(tmp_path / f"rank{rank}.pth") for rank in range(2))
    assert first["losses"].keys() == second["losses"].keys()
    for name, gradient in first["gradients"].items():
        assert gradient is not None and torch.equal(gradient, second["gradients"][name]), name
    # 3 objects over 2 ranks: sums are divided by 1.5, so rank 0 has twice its loss alone
    alone = tiny_dino().train()
    alone.dn_number = 0
    torch.testing.assert_close(
        torch.tensor(first["losses"]["loss_bbox"]),
        2 * alone(batch((2, 1)))["loss_bbox"].detach(),
    )
    assert second["losses"]["loss_bbox"] == 0
