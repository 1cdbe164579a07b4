"""Detections: the highest scores over queries and classes, in pixels of the original image."""

import torch

from projects.clockdistill.modeling.detectors.postprocess import detections


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
