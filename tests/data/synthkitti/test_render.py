import math

import numpy as np
import pytest

from projects.clockdistill.data.split import split_by_seed
from projects.clockdistill.data.synthkitti import render
from projects.clockdistill.data.synthkitti.layout import Item
from projects.clockdistill.data.synthkitti.render import draw_frame
from projects.clockdistill.data.synthkitti.style import SceneStyle
from projects.clockdistill.data.synthkitti.tree import DEFAULT_FRAMES, DEFAULT_SEED

STYLE = SceneStyle()
CLASSES = [name for name, _ in STYLE.class_weights]
CAR_HWL, BOX_HWL = (1.5, 1.7, 4.0), (1.6, 0.4, 4.0)


@pytest.fixture(scope="module")
def val_labels():
    """Labels of the default validation frames."""
    split = split_by_seed([f"{index:06d}" for index in range(DEFAULT_FRAMES)])
    return [draw_frame(DEFAULT_SEED, int(name), STYLE).objects for name in split["val"]]


@pytest.fixture
def draw_items(monkeypatch):
    """Returns a function that draws exactly these items, given far to near."""

    def draw(*items: Item):
        monkeypatch.setattr(render, "sample_items", lambda *_: list(items))
        return draw_frame(0, 0, STYLE).objects

    return draw


def car(x: float, z: float, rotation_y: float = 0.0) -> Item:
    return Item("Car", True, 0, CAR_HWL, (x, z), rotation_y)


def clutter(kind: str, x: float, z: float, size_hwl=BOX_HWL) -> Item:
    return Item(kind, False, 0, size_hwl, (x, z), 0.0)


def projected_box(label) -> np.ndarray:
    """Returns the 2D extent of a label's 3D box by KITTI's formula (devkit, computeBox3D.m)."""
    height, width, length = label.size_hwl
    cos, sin = math.cos(label.rotation_y), math.sin(label.rotation_y)
    corners = []
    for along in (-length / 2, length / 2):
        for up in (0, height):
            for across in (-width / 2, width / 2):
                x = cos * along + sin * across + label.location_xyz[0]
                y = -up + label.location_xyz[1]
                z = -sin * along + cos * across + label.location_xyz[2]
                corners.append(
                    (STYLE.focal * x / z + STYLE.width / 2, STYLE.focal * y / z + STYLE.horizon)
                )
    corners = np.array(corners)
    return np.concatenate((corners.min(axis=0), corners.max(axis=0)))


def overlap(a, b) -> float:
    """Returns the intersection over union of two xyxy boxes."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def test_a_frame_depends_on_seed_and_index_only():
    first = draw_frame(3, 5, STYLE)
    draw_frame(3, 6, STYLE)
    again = draw_frame(3, 5, STYLE)
    assert (first.image == again.image).all() and first.objects == again.objects
    assert first.image.shape == (96, 320, 3) and first.image.dtype == np.uint8
    for other in (draw_frame(3, 6, STYLE), draw_frame(4, 5, STYLE)):
        assert (first.image != other.image).any()


def test_the_validation_set_has_enough_of_everything(val_labels):
    boxes = {name: [] for name in CLASSES}
    for objects in val_labels:
        for label in objects:
            if label.type != "DontCare":
                boxes[label.type].append(label.box_xyxy)
    assert len(val_labels) == 400
    assert {name: len(found) for name, found in boxes.items() if len(found) < 60} == {}
    left, top, right, bottom = np.concatenate([np.array(found) for found in boxes.values()]).T
    heights, areas = bottom - top, (bottom - top) * (right - left)
    assert 40 < np.median(heights) < 50
    assert 3.3 < len(heights) / 400 < 4.3
    assert (areas < 32**2).sum() >= 100 and (areas > 96**2).sum() >= 100
    assert ((areas >= 32**2) & (areas <= 96**2)).sum() >= 100


def test_empty_frames_dont_care_occlusion_and_truncation_all_occur(val_labels):
    objects = [label for frame in val_labels for label in frame]
    targets = [label for label in objects if label.type != "DontCare"]
    empty = sum(all(label.type == "DontCare" for label in frame) for frame in val_labels)
    assert 8 <= empty <= 48  # 2% to 12%
    assert len(objects) - len(targets) >= 100
    assert min(sum(label.occluded == state for label in targets) for state in (0, 1, 2)) >= 60
    assert sum(label.truncated > 0.1 for label in targets) >= 60
    # Rear, front and side views: alpha near -90 degrees, +90 degrees, and 0 or 180 degrees.
    alphas = np.array([label.alpha for label in targets if label.type == "Car"])
    rear, front = np.sin(alphas) < -0.8, np.sin(alphas) > 0.8
    assert min(rear.sum(), front.sum(), (np.abs(np.cos(alphas)) > 0.8).sum()) >= 40


def test_2d_and_3d_fields_agree(val_labels):
    ious = {"vehicle": [], "person": []}
    for label in (label for frame in val_labels for label in frame if label.type != "DontCare"):
        assert label.location_xyz[1] == STYLE.camera_height
        x, _, z = label.location_xyz
        direction = label.rotation_y - math.atan2(x, z)
        assert math.cos(label.alpha - direction) == pytest.approx(1.0)
        assert abs(label.alpha) <= math.pi and abs(label.rotation_y) <= math.pi
        box = np.clip(projected_box(label), 0, [STYLE.width, STYLE.height] * 2)
        kind = "vehicle" if label.type in ("Car", "Van", "Truck", "Tram") else "person"
        ious[kind].append(overlap(box, np.array(label.box_xyxy)))
    # Seen at an angle, a 3D box is wider than the object in it, of people more than of vehicles.
    assert min(ious["vehicle"]) > 0.75 and np.median(ious["vehicle"]) > 0.9
    assert min(ious["person"]) > 0.3 and np.median(ious["person"]) > 0.7


def test_boxes_lie_in_the_image_and_dont_care_comes_last(val_labels):
    for frame in val_labels:
        kinds = [label.type == "DontCare" for label in frame]
        assert kinds == sorted(kinds)
        for label in frame:
            left, top, right, bottom = label.box_xyxy
            assert 0 <= left < right <= STYLE.width and 0 <= top < bottom <= STYLE.height
            if label.type != "DontCare":
                assert bottom - top >= STYLE.min_height
                assert 0 <= label.truncated <= STYLE.max_truncated


def test_clutter_is_never_labelled(draw_items):
    kinds = ("billboard", "container", "tree", "kiosk", "sign", "bollard", "crate", "lamp_post")
    items = [clutter(kind, -8 + 2.2 * i, 14.0) for i, kind in enumerate(kinds)]
    assert draw_items(*items) == ()


def test_occlusion_is_the_hidden_share_and_keeps_the_box(draw_items):
    (alone,) = draw_items(car(0.0, 12.0))
    # A flat box 4 m long at z = 8 hides what it covers: of the car (x from -2 to 2 at z = 12,
    # so from -1.33 to 1.33 at z = 8) nothing, 20%, 60%, 90% and all.
    states = []
    for covered in (0.0, 0.2, 0.6, 0.9):
        x = 1.33 - covered * 2.67 + 2.0
        label = draw_items(car(0.0, 12.0), clutter("crate", x, 8.0))[0]
        assert label.box_xyxy == alone.box_xyxy
        states.append((label.type, label.occluded))
    assert states == [("Car", 0), ("Car", 1), ("Car", 2), ("DontCare", -1)]
    assert draw_items(car(0.0, 12.0), clutter("crate", 0.0, 8.0)) == ()


def test_objects_behind_do_not_occlude(draw_items):
    label = draw_items(clutter("container", 0.0, 16.0, (3.0, 1.0, 6.0)), car(0.0, 12.0))[0]
    assert (label.type, label.occluded) == ("Car", 0)


@pytest.mark.parametrize("x", [0.0, -6.0, -7.5, 9.0])
def test_truncation_is_the_share_of_the_box_outside_the_image(draw_items, x):
    (label,) = draw_items(car(x, 10.0))
    left, _, right, _ = projected_box(label)
    inside = min(right, STYLE.width) - max(left, 0)
    assert label.truncated == pytest.approx(1 - inside / (right - left), abs=0.02)
    assert (label.truncated > 0.1) == (abs(x) > 7)


def test_far_and_cut_off_objects_are_dont_care(draw_items):
    assert [label.type for label in draw_items(car(0.0, 60.0))] == ["DontCare"]
    assert [label.type for label in draw_items(car(10.6, 10.0))] == ["DontCare"]
    assert draw_items(car(30.0, 10.0)) == ()
