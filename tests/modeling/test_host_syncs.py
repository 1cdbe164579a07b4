"""A training step waits for the device twice: for the matcher's costs and the logged scalars.

Where there is a GPU, CUDA itself watches one more step.
"""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.engine.trainer import Trainer
from projects.clockdistill.modeling.detectors import matcher
from projects.clockdistill.modeling.detectors.transfers import to_device, to_host
from tests.analysis.tiny_distiller import tiny_distiller
from tests.modeling.host_syncs import READERS, HostSyncError, no_host_syncs
from tests.modeling.tiny_detectors import FAMILIES, VARIANTS, batch, untrained_detector

x = torch.ones(4, 3, device="meta")
index = torch.zeros(2, dtype=torch.int64, device="meta")
mask = torch.ones(4, dtype=torch.bool, device="meta")
SYNCS = {
    "item": lambda: x.sum().item(),
    "int": lambda: int(index[0]),
    "bool": lambda: bool((x > 0).all()),
    "slice": lambda: x[: index[0]],
    "range": lambda: range(index[0]),
    "equal": lambda: torch.equal(x, x),
    "nonzero": lambda: x.nonzero(),
    "where": lambda: torch.where(mask),
    "read by a mask": lambda: x[mask],
    "write by a mask": lambda: x.__setitem__(mask, torch.zeros(3, device="meta")),
    "fill by a mask": lambda: x.__setitem__(mask, 0.0),
    "masked_select": lambda: x.masked_select(x > 0),
    "unique": lambda: index.unique(),
    "one_hot": lambda: nn.functional.one_hot(index),
    "repeat_interleave": lambda: x[:2].repeat_interleave(index, dim=0),
    "tensor": lambda: torch.tensor([1.0, 2.0], device="meta"),
    "scalar tensor": lambda: torch.tensor(1.0, device="meta"),
    "new_tensor": lambda: x.new_tensor([1.0, 2.0]),
    "as_tensor": lambda: torch.as_tensor(np.ones(2), device="meta"),
    "blocking copy": lambda: torch.ones(2).to("meta"),
    "blocking copy_": lambda: x.copy_(torch.ones(3)),
    "index by a list": lambda: x[:, [1, 0]],
    "index by host indices": lambda: x[torch.tensor([1, 0])],
    "write numbers by indices": lambda: x.__setitem__((index, index), 1.0),
    "write one number": lambda: x.__setitem__((0, 0), 1.0),
}
NO_SYNCS = {
    "fill a slice": lambda: x.__setitem__((slice(0, 2), Ellipsis), 1.0),
    "write a device tensor": lambda: x.__setitem__((index, index), x.new_ones(())),
    "index": lambda: x[index, 1:],
    "arithmetic with numbers": lambda: torch.full((), 2.0, device="meta") * x + 10.0**x,
    "masked_fill": lambda: x.masked_fill(mask[:, None], 0.0),
    "to_device": lambda: to_device(torch.ones(2), x.device),
}


@pytest.mark.parametrize("function", SYNCS.values(), ids=SYNCS)
def test_a_wait_for_the_device_is_refused(function: Callable):
    with no_host_syncs(), pytest.raises(HostSyncError):
        function()


@pytest.mark.parametrize("function", NO_SYNCS.values(), ids=NO_SYNCS)
def test_what_a_device_does_by_itself_is_not_refused(function: Callable):
    with no_host_syncs() as copies:
        function()
    assert copies.to_host == 0


def test_copies_are_counted():
    with no_host_syncs() as copies:
        to_device(torch.ones(2), x.device)
        to_host(x)
        index.tolist()
    assert (copies.to_device, copies.to_host) == (1, 2)


@pytest.fixture
def on_meta(monkeypatch) -> None:
    """torch has no autocast for the meta device, not even to switch it off."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def every_loss(family: str) -> nn.Module:
    return tiny_distiller(family, features=("fitnet", "fgd", "mgd"))


@pytest.mark.parametrize(
    ("family", "counts"), [*((family, (3, 0)) for family in FAMILIES), ("dino", (0, 0))]
)
def test_a_step_waits_for_the_matcher_and_the_logged_scalars(family, counts, on_meta):
    model = every_loss(family).to("meta")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    trainer = Trainer(model, lambda _: [batch(counts)], optimizer, max_norm=0.1)
    with no_host_syncs() as copies:
        trainer.train(0, 1)
    assert copies.to_host == 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_variants_wait_for_the_matcher_alone(variant: str, on_meta):
    detector = untrained_detector(variant).to("meta").train()
    with no_host_syncs() as copies:
        sum(detector(batch()).values()).backward()
    assert copies.to_host == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_read_no_value(family: str):
    """On the CPU, since some gradients, as that of `prod`, read values but on the meta device."""
    total = sum(every_loss(family)(batch()).values())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        total.backward()
    called = {event.key.removeprefix("aten::") for event in profile.key_averages()}
    assert "mul" in called
    assert not called & READERS


@pytest.mark.parametrize("name", [*FAMILIES, *VARIANTS])
def test_predictions_need_nothing_from_the_host(name: str):
    detector = untrained_detector(name).eval()
    images, padding = detector.preprocess_images(batch())
    detector.to("meta")
    images, padding = images.tensor.to("meta"), padding.to("meta")
    with no_host_syncs() as copies, torch.no_grad():
        detector.predictions(images, padding)
    assert copies.to_host == copies.to_device == 0


def test_detections_are_read_once():
    detector = untrained_detector("dab_detr").to("meta").eval()
    with no_host_syncs() as copies, torch.no_grad():
        detector(batch())
    assert copies.to_host == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_cuda_sees_no_wait_but_the_matchers(family: str, half: bool, monkeypatch):
    def allowed(x: Tensor) -> Tensor:
        torch.cuda.set_sync_debug_mode("default")
        try:
            return to_host(x)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    def step(counts: tuple[int, int]) -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            total = sum(model(batch(counts)).values())
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    model = every_loss(family).cuda()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    step((2, 1))  # loads libraries and compiles kernels
    monkeypatch.setattr(matcher, "to_host", allowed)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step((3, 0))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_host_data_is_pinned(monkeypatch):
    """A copy of pageable memory lets the host wait although it is called non-blocking."""
    copied, to = [], Tensor.to
    monkeypatch.setattr(Tensor, "to", lambda x, *a, **k: copied.append(x) or to(x, *a, **k))
    assert to_device(torch.arange(3), torch.device("cuda")).tolist() == [0, 1, 2]
    assert [x.is_pinned() for x in copied] == [True]
