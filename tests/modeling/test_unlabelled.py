"""Images without labels: they train through the teacher and change nothing for the others."""

import pytest
import torch
from detectron2.structures import Boxes, Instances

from projects.clockdistill.modeling.pseudo_targets import UNLABELLED, PseudoTargets, by_labels
from projects.clockdistill.modeling.token_weights import TokenWeights
from tests.modeling.test_meta_arch import distiller, gradients, step
from tests.modeling.tiny_detectors import FAMILIES, batch

SURE = PseudoTargets(threshold=0.05)  # the tiny teachers are sure of little


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def marked(images: list[dict], unlabelled: bool) -> list[dict]:
    return [{**image, UNLABELLED: unlabelled} for image in images]


LABELLED = marked(batch(seed=1), False)
UNLABELLED_IMAGES = marked(batch(seed=2), True)


def test_losses_of_labelled_images_do_not_change(family):
    alone = step(distiller(family), batch(seed=1))
    model = distiller(family, pseudo_targets=SURE)
    losses = step(model, [*UNLABELLED_IMAGES, *LABELLED])
    assert losses.keys() - alone.keys() == {
        f"loss_distill_{name}_unlabelled" for name in ("memory", "class", "bbox", "giou")
    }
    assert all(losses[name] > 0 for name in losses.keys() - alone.keys())
    torch.testing.assert_close({name: losses[name] for name in alone}, alone, rtol=1e-6, atol=1e-6)


def test_a_batch_without_labels_trains(family):
    model = distiller(family, pseudo_targets=SURE)
    losses = step(model, UNLABELLED_IMAGES)
    counted = {name for name, loss in losses.items() if loss.item()}
    assert counted == {name for name in losses if name.endswith("_unlabelled")}
    moved = gradients(model.student)
    assert any("encoder" in name for name in moved) and any("decoder" in name for name in moved)
    assert all(gradient.isfinite().all() for gradient in moved.values())
    # DDP expects a gradient, if only of 0, of every parameter
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_labels_are_never_read(family):
    wrong = [{**image, "instances": "none of these"} for image in UNLABELLED_IMAGES]
    model = distiller(family, pseudo_targets=SURE)
    expected = step(distiller(family, pseudo_targets=SURE), [*LABELLED, *UNLABELLED_IMAGES])
    torch.testing.assert_close(step(model, [*LABELLED, *wrong]), expected, rtol=0, atol=0)


def test_the_mask_may_be_left_out():
    everywhere = TokenWeights(alpha=1e-2, masks="none")
    model = distiller(pseudo_targets=SURE, unlabelled_token_weights=everywhere)
    losses = step(model, [*LABELLED, *UNLABELLED_IMAGES])
    masked = step(distiller(pseudo_targets=SURE), [*LABELLED, *UNLABELLED_IMAGES])
    name = "loss_distill_memory"
    torch.testing.assert_close(losses[name], masked[name])
    assert losses[f"{name}_unlabelled"] != masked[f"{name}_unlabelled"]


def test_pseudo_targets_are_the_sure_detections():
    found = Instances(
        (50, 100),
        pred_boxes=Boxes(torch.tensor([[10.0, 5.0, 30.0, 25.0], [0.0, 0.0, 9.0, 9.0]])),
        scores=torch.tensor([0.5, 0.49]),
        pred_classes=torch.tensor([2, 1]),
    )
    nothing = found[found.scores > 1]
    (target, empty) = PseudoTargets(threshold=0.5)([found, nothing], torch.device("cpu"))
    assert target["labels"].tolist() == [2]
    # centre (20, 15) and size 20 x 20 of an image of 100 x 50
    torch.testing.assert_close(target["boxes"], torch.tensor([[0.2, 0.3, 0.2, 0.4]]))
    assert empty["labels"].shape == (0,) and empty["boxes"].shape == (0, 4)


def test_batches_that_do_not_say_have_labels():
    assert len(by_labels(batch())) == 1
    labelled, unlabelled = by_labels([*UNLABELLED_IMAGES, *LABELLED])
    assert [image[UNLABELLED] for image in labelled] == [False, False]
    assert [image[UNLABELLED] for image in unlabelled] == [True, True]


def test_refusals():
    with pytest.raises(ValueError, match=r"pseudo_targets is null.\nFix: "):
        step(distiller(), [*LABELLED, *UNLABELLED_IMAGES])
    with pytest.raises(ValueError, match="threshold=0 is not a score"):
        PseudoTargets(threshold=0)
