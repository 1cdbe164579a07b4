"""Images to batches, annotations to targets, and what is refused with which words."""

import pytest
import torch
from detectron2.structures import Boxes, Instances

from projects.clockdistill.modeling.detectors.base import Detector


@pytest.fixture
def detector() -> Detector:
    return Detector(3, pixel_mean=[10.0, 20.0, 30.0], pixel_std=[2.0, 4.0, 5.0], input_format="RGB")


def entry(height=8, width=16, boxes=((2.0, 1.0, 6.0, 5.0),), classes=(2,)) -> dict:
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor(boxes).view(-1, 4))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    image = torch.full((3, height, width), 40, dtype=torch.uint8)
    return {"image": image, "instances": instances, "file_name": "drive/000042.png"}


def test_images_are_normalised_and_padded_with_zeros(detector):
    images, mask = detector.preprocess_images([entry(), entry(height=6, width=10)])
    assert images.tensor.shape == (2, 3, 8, 16) and images.image_sizes == [(8, 16), (6, 10)]
    assert images.tensor[0, :, 0, 0].tolist() == [15.0, 5.0, 2.0]
    assert torch.equal(images.tensor[1].eq(0).all(0), mask[1])
    assert not mask[0].any() and int((~mask[1]).sum()) == 60


def test_targets_are_centres_and_sizes_of_the_unpadded_image(detector):
    target = detector.prepare_targets([entry()])[0]
    torch.testing.assert_close(target["boxes"], torch.tensor([[4 / 16, 3 / 8, 4 / 16, 4 / 8]]))
    assert target["labels"].tolist() == [2]


def test_an_image_without_objects_is_a_target_too(detector):
    target = detector.prepare_targets([entry(boxes=(), classes=())])[0]
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)


def test_constants_follow_the_module_and_stay_out_of_checkpoints(detector):
    assert not detector.state_dict()
    assert detector.to("meta").device.type == "meta"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": (3,)}, r"num_classes=3 \(0 to 2\)"),
        ({"classes": (-1,)}, r"classes \[-1\]"),
        ({"boxes": ((6.0, 1.0, 2.0, 5.0),)}, "x1 <= x2"),
        ({"boxes": ((2.0, 1.0, float("nan"), 5.0),)}, "finite"),
    ],
)
def test_bad_annotations_are_refused_by_the_images_name(detector, change, words):
    with pytest.raises(ValueError, match=rf"drive/000042\.png: .*{words}"):
        detector.prepare_targets([entry(**change)])


def test_missing_annotations_and_wrong_images_are_refused(detector):
    plain = entry()
    del plain["instances"]
    with pytest.raises(ValueError, match="is_train=False"):
        detector.prepare_targets([plain])
    with pytest.raises(ValueError, match="8 x 16, the image is 4 x 16"):
        detector.prepare_targets([entry() | {"image": torch.zeros(3, 4, 16)}])
    with pytest.raises(ValueError, match=r"\(3, H, W\), got \(1, 8, 16\)"):
        detector.preprocess_images([entry() | {"image": torch.zeros(1, 8, 16)}])
    with pytest.raises(ValueError, match="no image"):
        detector.preprocess_images([])
