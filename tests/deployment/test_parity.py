"""Which images count in the comparison of a file with its checkpoint, and what they prove."""

import copy
from types import SimpleNamespace

import pytest
import torch
from detectron2.structures import Boxes, Instances

from projects.clockdistill.deployment.parity import LIMITS, Parity, measure
from projects.clockdistill.deployment.samples import noise_images
from tests.modeling.tiny_detectors import tiny_dino

HEIGHT, WIDTH = 64, 96
TIE = 100.0  # grey level


class Ranking:
    """Detects ten objects; which class they have is decided by a comparison, as TopK decides.

    Args:
        rounding: added to the brightness; exported files and checkpoints round in their own ways.
        score_error: added to the scores; a wrong file has one.
    """

    def __init__(self, rounding: float = 0.0, score_error: float = 0.0) -> None:
        self.runtime = SimpleNamespace(height=HEIGHT, width=WIDTH, max_batch=1)
        self._rounding = rounding
        self._score_error = score_error

    def __call__(self, batched_inputs: list[dict]) -> list[dict]:
        results = []
        for entry in batched_inputs:
            brightness = float(entry["image"].double().mean()) + self._rounding
            corners = 4.0 * torch.arange(10)[:, None]
            instances = Instances(
                (HEIGHT, WIDTH),
                pred_boxes=Boxes(torch.cat((corners, corners, corners + 9, corners + 9), dim=1)),
                scores=torch.linspace(0.9, 0.5, 10) + self._score_error,
                pred_classes=torch.full((10,), int(brightness > TIE)),
            )
            results.append({"instances": instances})
        return results


def greys(*levels: float) -> list[dict]:
    return [{"image": torch.full((3, HEIGHT, WIDTH), level)} for level in levels]


def compared(file: Ranking, *levels: float) -> Parity:
    return measure(Ranking(), file, greys(*levels), LIMITS["fp32"])


def test_an_image_on_which_the_checkpoint_is_unstable_is_left_out_and_counted() -> None:
    parity = compared(Ranking(rounding=1e-6), 50.0, TIE, 150.0)
    assert (parity.images, parity.left_out, parity.unmatched) == (2, 1, 0)
    assert parity.detections == 2 * 2 * 10  # of both detectors on the two other images
    assert parity.holds(LIMITS["fp32"])


def test_a_wrong_file_is_refused_although_images_are_left_out() -> None:
    parity = compared(Ranking(rounding=1e-6, score_error=2e-4), 50.0, TIE, 150.0)
    assert (parity.images, parity.left_out) == (2, 1)
    assert not parity.holds(LIMITS["fp32"])
    # 1 grey level is no rounding: between 99 and 100 the file detects other classes
    parity = compared(Ranking(rounding=1.0), 50.0, 99.5, 150.0)
    assert (parity.left_out, parity.unmatched) == (0, 20)
    assert not parity.holds(LIMITS["fp32"])


def test_more_images_left_out_than_compared_prove_nothing() -> None:
    parity = compared(Ranking(rounding=1e-6), 50.0, TIE)
    assert (parity.images, parity.left_out) == (1, 1) and parity.holds(LIMITS["fp32"])
    parity = compared(Ranking(rounding=1e-6), 50.0, TIE, TIE)
    assert parity.within(LIMITS["fp32"]) and not parity.holds(LIMITS["fp32"])


def test_without_limits_no_image_is_left_out() -> None:
    parity = measure(Ranking(), Ranking(rounding=1e-6), greys(50.0, TIE))
    assert (parity.images, parity.left_out, parity.unmatched) == (2, 0, 20)


@pytest.mark.parametrize("change", [1.0, 1.01])
def test_a_detector_with_other_weights_is_refused(change: float) -> None:
    detector = tiny_dino().eval()
    other = copy.deepcopy(detector)
    with torch.no_grad():
        other.transformer.level_embeds.mul_(change)
    other.runtime = Ranking().runtime
    parity = measure(detector, other, noise_images(3, HEIGHT, WIDTH), LIMITS["fp32"])
    assert parity.holds(LIMITS["fp32"]) == (change == 1.0)
    assert parity.left_out == 0
