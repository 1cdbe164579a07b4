"""Images to batches, annotations to targets, predictions to detections, refusals."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances

from projects.clockdistill.deployment.graph import DetectorGraph
from projects.clockdistill.modeling.detectors.base import Detector, detections
from tests.modeling.tiny_detectors import FAMILIES, batch, tiny_config, tiny_detector


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
    with pytest.raises(ValueError, match="is_train=True"):
        detector.prepare_targets([plain])
    with pytest.raises(ValueError, match="8 x 16, the image is 4 x 16"):
        detector.prepare_targets([entry() | {"image": torch.zeros(3, 4, 16)}])
    with pytest.raises(ValueError, match=r"\(3, H, W\), got \(1, 8, 16\)"):
        detector.preprocess_images([entry() | {"image": torch.zeros(1, 8, 16)}])
    with pytest.raises(ValueError, match="no image"):
        detector.preprocess_images([])


def one_image(logits, boxes, max_detections=10, image=(100, 200), output=(100, 200)):
    return detections(
        torch.tensor([logits]), torch.tensor([boxes]), [image], [output], max_detections
    )[0]


def test_takes_the_best_pairs_of_query_and_class():
    logits = [[-1.0, 2.0], [1.0, 0.0]]
    boxes = [[0.25, 0.5, 0.1, 0.2], [0.5, 0.5, 0.5, 0.5]]
    found = one_image(logits, boxes, max_detections=3)
    assert found.pred_classes.tolist() == [1, 0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 1.0, 0.0]).sigmoid())
    # 200 wide, 100 high: centre 50, 50 with sides 20, 20; then centre 100, 50 with sides 100, 50
    first, second = [40.0, 40.0, 60.0, 60.0], [50.0, 25.0, 150.0, 75.0]
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([first, second, second]))


def test_gives_fewer_where_there_are_fewer_pairs():
    assert len(one_image([[0.0, 1.0]], [[0.5, 0.5, 0.2, 0.2]], max_detections=300)) == 2


def test_scales_to_the_original_size_and_clips():
    found = one_image([[0.0]], [[0.9, 0.5, 0.4, 0.5]], image=(100, 200), output=(50, 1000))
    assert found.image_size == (50, 1000)
    expected = torch.tensor([[700.0, 12.5, 1000.0, 37.5]])
    torch.testing.assert_close(found.pred_boxes.tensor, expected)


def test_drops_boxes_without_area():
    boxes = [[0.5, 0.5, 0.0, 0.2], [0.5, 0.5, 0.2, 0.2], [1.2, 0.5, 0.1, 0.1]]
    found = one_image([[3.0], [1.0], [2.0]], boxes)
    torch.testing.assert_close(found.scores, torch.tensor([1.0]).sigmoid())


def test_images_of_a_batch_keep_their_own_sizes():
    boxes = torch.tensor([[[0.5, 0.5, 1.0, 1.0]]] * 2)
    sizes = [(10, 20), (30, 40)]
    found = detections(torch.zeros(2, 1, 1), boxes, sizes, sizes, 5)
    for (height, width), instances in zip(sizes, found, strict=True):
        assert instances.pred_boxes.tensor.tolist() == [[0.0, 0.0, width, height]]


@pytest.mark.parametrize("name", ["rgb", "GBR", "", None])
def test_an_unknown_channel_order_is_refused(name):
    with pytest.raises(ValueError, match=r"input_format=.* is unknown.*\nFix: use RGB or BGR"):
        Detector(3, [0.0] * 3, [1.0] * 3, input_format=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_bgr_weights_give_what_rgb_weights_give(family):
    rgb = tiny_detector(family).eval()
    mean, std = rgb.pixel_mean.flatten().tolist(), rgb.pixel_std.flatten().tolist()
    config = tiny_config(family)
    config.input_format, config.pixel_mean, config.pixel_std = "BGR", mean[::-1], std[::-1]
    bgr = instantiate(config).eval()
    state = rgb.state_dict()
    state["backbone.stem.conv1.weight"] = state["backbone.stem.conv1.weight"].flip(1)
    bgr.load_state_dict(state)
    images_and_boxes = batch()
    with torch.no_grad():
        for found, expected in zip(bgr(images_and_boxes), rgb(images_and_boxes), strict=True):
            scores = found["instances"].scores, expected["instances"].scores
            torch.testing.assert_close(*scores, rtol=0, atol=1e-5)
        images = torch.rand(2, 3, 64, 96) * 255
        sizes = torch.tensor([[64, 96], [40, 64]])
        for found, expected in zip(
            DetectorGraph(bgr)(images, sizes), DetectorGraph(rgb)(images, sizes), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    for detector in (bgr, rgb):
        detector.train()
    losses = []
    for detector in (bgr, rgb):
        torch.manual_seed(0)
        losses.append(detector(images_and_boxes))
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
