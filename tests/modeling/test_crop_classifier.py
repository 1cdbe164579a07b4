"""Crops lie where they should, and their classes can be learned."""

import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from projects.clockdistill.modeling.crop_classifier import CropClassifier


class _Seen(nn.Module):
    """A backbone that keeps what it is shown, and averages its colour."""

    def forward(self, patches: Tensor) -> dict[str, Tensor]:
        self.patches = patches
        return {"res4": patches[:, :, :1, :1], "res5": patches}


def _classifier(crop_size: int = 12, background_crops: int = 5) -> CropClassifier:
    return CropClassifier(
        _Seen(),
        channels=3,
        num_classes=2,
        crop_size=crop_size,
        crops_per_object=2,
        background_crops=background_crops,
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(1.0, 1.0, 1.0),
        input_format="RGB",
    )


def _entry(image: Tensor, boxes_xyxy: list[list[float]], labels: list[int]) -> dict:
    instances = Instances(tuple(image.shape[-2:]))
    instances.gt_boxes = Boxes(torch.tensor(boxes_xyxy).reshape(-1, 4))
    instances.gt_classes = torch.tensor(labels, dtype=torch.int64)
    return {"image": image, "instances": instances}


def test_a_crop_is_a_square_around_its_object() -> None:
    image = torch.rand(3, 40, 60)
    model = _classifier(crop_size=13).eval()
    # 10 wide, 4 high, so the crop is 13 wide: pixels 13.5 to 26.5 of columns 15 to 25
    model([_entry(image, [[15.0, 18.0, 25.0, 22.0]], [0])])
    shown = model.backbone.patches[0]
    columns = 0.5 * (image[:, :, 13:26] + image[:, :, 14:27])  # half a pixel to the right
    expected = 0.5 * (columns[:, 13:26] + columns[:, 14:27])  # rows 13.5 to 26.5
    torch.testing.assert_close(shown, expected)


def test_every_object_is_named_in_its_image() -> None:
    model = _classifier().eval()
    images = [torch.rand(3, 40, 60) for _ in range(3)]
    boxes = [[1.0, 1.0, 9.0, 9.0], [20.0, 20.0, 30.0, 30.0]]
    batch = [
        _entry(images[0], boxes, [0, 1]),
        _entry(images[1], [], []),
        _entry(images[2], boxes[:1], [1]),
    ]
    together = model(batch)
    assert [len(classes) for classes in together] == [2, 0, 1]
    for entry, classes in zip(batch, together, strict=True):
        assert torch.equal(model([entry])[0], classes)


@given(
    st.lists(
        st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.05, 1), st.floats(0.05, 1)),
        max_size=5,
    ),
    st.integers(0, 1000),
)
def test_background_is_cut_where_no_object_is(corners, seed: int) -> None:
    torch.manual_seed(seed)
    boxes = [[60 * x, 40 * y, 60 * min(1, x + w), 40 * min(1, y + h)] for x, y, w, h in corners]
    model = _classifier(background_crops=20)
    images = model.preprocess_images([_entry(torch.rand(3, 40, 60), boxes, [0] * len(boxes))])[0]
    xyxy = torch.tensor(boxes).reshape(-1, 4)
    cxcywh = torch.cat([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], dim=1)
    crops = model._elsewhere(cxcywh, images.image_sizes[0])
    assert len(boxes) > 0 or len(crops) == 20
    for crop in crops:
        x, y = (crop[:2] + crop[2:]) / 2
        assert 0 <= x <= 60 and 0 <= y <= 40
        torch.testing.assert_close(crop[2] - crop[0], crop[3] - crop[1])
        for left, top, right, bottom in boxes:
            assert not (left + 1e-3 < x < right - 1e-3 and top + 1e-3 < y < bottom - 1e-3)


def test_images_without_objects_train_on_background_alone() -> None:
    model = _classifier()
    losses = model([_entry(torch.rand(3, 40, 60), [], [])])
    losses["loss_crops"].backward()
    assert losses["loss_crops"].isfinite()
    assert len(model.backbone.patches) == 5


def test_no_crop_at_all_is_no_loss() -> None:
    model = _classifier(background_crops=0)
    loss = model([_entry(torch.rand(3, 40, 60), [], [])])["loss_crops"]
    loss.backward()
    assert loss == 0
    assert not model.classifier.weight.grad.any()


def test_it_learns_to_tell_red_from_green_from_the_road() -> None:
    torch.manual_seed(0)
    image = torch.zeros(3, 40, 60)
    image[0, 5:15, 5:15] = 1
    image[1, 20:30, 40:50] = 1
    batch = [_entry(image, [[5.0, 5.0, 15.0, 15.0], [40.0, 20.0, 50.0, 30.0]], [0, 1])]
    model = _classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    first = None
    for _ in range(100):
        loss = model(batch)["loss_crops"]
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < first / 3
    assert model.eval()(batch)[0].tolist() == [0, 1]
