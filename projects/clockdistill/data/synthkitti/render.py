"""One frame: a scene drawn from (seed, index), and what KITTI's labels say of it."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from projects.clockdistill.data.kitti_labels import KittiObject
from projects.clockdistill.data.synthkitti.camera import Camera, observation_angle
from projects.clockdistill.data.synthkitti.canvas import Canvas
from projects.clockdistill.data.synthkitti.clutter import draw_bench, draw_clutter
from projects.clockdistill.data.synthkitti.layout import (
    PERSON_SIZES,
    Item,
    sample_items,
    sample_street,
)
from projects.clockdistill.data.synthkitti.light import Light, sample_light
from projects.clockdistill.data.synthkitti.mesh import draw_mesh
from projects.clockdistill.data.synthkitti.people import (
    Figure,
    draw_cyclist,
    draw_pedestrian,
    draw_sitting,
    sample_look,
)
from projects.clockdistill.data.synthkitti.street import draw_scenery
from projects.clockdistill.data.synthkitti.style import SceneStyle
from projects.clockdistill.data.synthkitti.vehicles import VEHICLES, sample_palette

_PEOPLE = {
    "Pedestrian": draw_pedestrian,
    "Person_sitting": draw_sitting,
    "Cyclist": draw_cyclist,
}
_WHOLLY_VISIBLE = 0.9  # share of an object's pixels from which on KITTI's "occluded" is 0
_PARTLY_VISIBLE = 0.5  # and 1; below, 2
_INVISIBLE = 0.05  # below, nobody could know that there is something


@dataclass(frozen=True)
class Frame:
    """
    Attributes:
        image: (height, width, 3) uint8 RGB.
        objects: its labels, DontCare last.
    """

    image: np.ndarray
    objects: tuple[KittiObject, ...]


@dataclass(frozen=True)
class _Drawn:
    """An object as it came onto the canvas: number, unclipped box, cells before any occlusion."""

    item: Item
    instance: int
    extent_xyxy: tuple[float, float, float, float]
    own_cells: int


def scene_camera(style: SceneStyle) -> Camera:
    """The one camera of all frames."""
    return Camera(style.focal, style.width / 2, style.horizon, style.camera_height)


def draw_frame(seed: int, index: int, style: SceneStyle) -> Frame:
    """Draw a frame; the same arguments give the same frame, whatever was drawn before."""
    rng = np.random.default_rng([seed, index])
    camera = scene_camera(style)
    light = sample_light(rng, style)
    street = sample_street(rng)
    items = sample_items(rng, style, camera, street)
    canvas = Canvas(style.width, style.height)
    draw_scenery(canvas, camera, light, rng, street, items)
    drawn = []
    for item in items:
        if item.is_object:
            drawn.append(_draw_object(canvas, camera, light, rng, item, instance=len(drawn) + 1))
        else:
            canvas.begin(0)
            draw_clutter(canvas, camera, light, rng, item)
    objects = [label for one in drawn if (label := _label(canvas, camera, style, one))]
    objects.sort(key=lambda label: label.type == "DontCare")
    return Frame(_expose(canvas.picture(), rng, style), tuple(objects))


def _draw_object(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    rng: np.random.Generator,
    item: Item,
    instance: int,
) -> _Drawn:
    size, place, heading = item.size_hwl, item.location_xz, item.rotation_y
    if item.kind == "Person_sitting":
        canvas.begin(0)
        draw_bench(canvas, camera, light, place, heading)
    canvas.begin(instance)
    if item.kind in _PEOPLE:
        scale = size[0] / PERSON_SIZES[item.kind][0]
        figure = Figure(canvas, camera, light, scale, place, heading)
        _PEOPLE[item.kind](figure, sample_look(rng))
    else:
        palette = sample_palette(rng, item.kind)
        parts = VEHICLES[item.kind][item.model].parts
        # Far to near: the rear first if the vehicle heads towards the camera.
        heads_away = place[0] * math.cos(heading) - place[1] * math.sin(heading) > 0
        for part in reversed(parts) if heads_away else parts:
            draw_mesh(canvas, camera, light, part, palette, size, place, heading)
    extent = canvas.extent_xyxy()
    return _Drawn(item, instance, extent, canvas.count_cells(instance, extent))


def _label(canvas: Canvas, camera: Camera, style: SceneStyle, drawn: _Drawn) -> KittiObject | None:
    """The object's label; DontCare if too small, hidden or cut off; None if not to be seen.

    The box is the drawn extent clipped to the image, not shrunk by occlusion. Truncation is the
    share of the unclipped box outside the image, occlusion follows from the cells still visible.
    """
    left, top, right, bottom = drawn.extent_xyxy
    box = (max(left, 0), max(top, 0), min(right, style.width), min(bottom, style.height))
    width, height = box[2] - box[0], box[3] - box[1]
    if width < 1 or height < 1 or drawn.own_cells == 0:
        return None
    box = tuple(float(edge) for edge in box)
    truncated = 1.0 - width * height / ((right - left) * (bottom - top))
    visible = canvas.count_cells(drawn.instance, drawn.extent_xyxy) / drawn.own_cells
    if visible < _INVISIBLE:
        return None
    too_small = height < style.min_height
    if too_small or visible < style.min_visible or truncated > style.max_truncated:
        return KittiObject("DontCare", -1, -1, -10, box, (-1,) * 3, (-1000,) * 3, -10)
    item = drawn.item
    return KittiObject(
        type=item.kind,
        truncated=truncated,
        occluded=int(visible < _WHOLLY_VISIBLE) + int(visible < _PARTLY_VISIBLE),
        alpha=observation_angle(item.rotation_y, item.location_xz),
        box_xyxy=box,
        size_hwl=item.size_hwl,
        location_xyz=(item.location_xz[0], camera.height, item.location_xz[1]),
        rotation_y=item.rotation_y,
    )


def _expose(picture: np.ndarray, rng: np.random.Generator, style: SceneStyle) -> np.ndarray:
    """Lens and sensor: blur, exposure, colour cast, noise."""
    sigma = rng.uniform(*style.blur)
    if sigma > 0.15:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    cast = rng.uniform(*style.exposure) * (1.0 + rng.normal(0.0, 0.02, size=3))
    # The sum of two uniform bytes, of standard deviation 104.5: five times as quick as a normal.
    grains = rng.integers(0, 256, size=(2, *picture.shape), dtype=np.uint8)
    scale = np.float32(rng.uniform(*style.noise) / 104.5)
    noise = np.add(grains[0], grains[1], dtype=np.float32)
    noise = (noise - 255.0) * scale
    row = np.tile(cast.astype(np.float32), picture.shape[1])  # one row's factors, channels inside
    flat = picture.reshape(picture.shape[0], -1)
    exposed = np.maximum(flat * row + noise.reshape(flat.shape), 0.0).reshape(picture.shape)
    return cv2.convertScaleAbs(exposed)  # rounds, and stops at 255
