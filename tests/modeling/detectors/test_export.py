"""Export by torch.export and torch.jit.trace; plain operators against the default ones."""

import pytest
import torch
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.plain import plain_operators
from tests.modeling.detectors.deformable_variants import shaken
from tests.modeling.tiny_detectors import (
    FAMILIES,
    assert_same_gradients,
    batch,
    tiny_detector,
)


class Predictions(nn.Module):
    """What is exported: images and mask to the last layer's class logits and boxes."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.detector.predictions(images, mask)


@pytest.fixture(params=[*FAMILIES, "two_stage"])
def detector(request) -> nn.Module:
    """One of each family, and Deformable-DETR in two stages."""
    return shaken(request.param) if request.param == "two_stage" else tiny_detector(request.param)


def padded(detector: nn.Module, count: int) -> tuple[Tensor, Tensor]:
    """A batch of so many images of different sizes, and its mask."""
    sizes = ((64, 96), (48, 80), (64, 64), (32, 96))[:count]
    images, mask = detector.preprocess_images(batch((0,) * count, sizes))
    return images.tensor, mask


@pytest.mark.parametrize("exporter", ["export", "trace"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_one_program_serves_batches_of_every_size(detector, exporter):
    module = Predictions(detector.eval())
    with plain_operators():
        if exporter == "trace":
            program = torch.jit.trace(module, padded(detector, 2))
        else:
            size = torch.export.Dim("batch", min=1, max=4)
            exported = torch.export.export(
                module, padded(detector, 2), dynamic_shapes=({0: size}, {0: size}), strict=False
            )
            program = exported.module()
            assert "clockdistill" not in str(exported.graph)  # torch's own operators alone
    for count in range(1, 5):
        inputs = padded(detector, count)
        torch.testing.assert_close(program(*inputs), module(*inputs), atol=1e-5, rtol=1e-5)


def test_plain_operators_give_the_same_losses_gradients_and_predictions(detector):
    def losses_and_gradients() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        detector.train().zero_grad()
        torch.manual_seed(0)  # of the denoising queries
        losses = detector(batch())
        sum(losses.values()).backward()
        return losses, {name: p.grad.clone() for name, p in detector.named_parameters()}

    def predictions() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return detector.eval().predictions(*padded(detector, 3))

    losses, gradients = losses_and_gradients()
    expected = predictions()
    with plain_operators():
        plain_predictions = predictions()
        plain_losses, plain_gradients = losses_and_gradients()
    torch.testing.assert_close(plain_predictions, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain_losses, losses, atol=1e-5, rtol=1e-5)
    assert_same_gradients(plain_gradients, gradients)
