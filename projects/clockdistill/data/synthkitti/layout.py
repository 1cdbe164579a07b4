"""Who stands where: a street, its traffic and its clutter, as plain data in metres."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from projects.clockdistill.data.synthkitti.camera import Camera, wrap_angle
from projects.clockdistill.data.synthkitti.style import SceneStyle
from projects.clockdistill.data.synthkitti.vehicles import VEHICLES

Footprint = tuple[float, float, float, float]  # x from, z from, x to, z to, metres

LANE_WIDTH = 3.2
_ATTEMPTS = 6  # at a free place, then the thing is left out
NEAREST = 2.6  # metres from the camera to the nearest point of anything: nothing crosses z = 0
PERSON_SIZES = {  # height, width, length in metres; the figures fill them
    "Pedestrian": (1.75, 0.55, 0.55),
    "Person_sitting": (1.34, 0.6, 0.8),
    "Cyclist": (1.75, 0.6, 1.75),
}
CLUTTER_SIZES = {
    "sign": (2.3, 0.7, 0.15),
    "bollard": (1.0, 0.25, 0.25),
    "lamp_post": (5.0, 0.3, 0.3),
    "crate": (1.1, 1.1, 1.4),
    "container": (1.6, 1.8, 3.2),
    "billboard": (3.0, 0.3, 3.6),
    "tree": (4.5, 1.0, 1.0),
    "kiosk": (2.5, 2.2, 2.2),
}


@dataclass(frozen=True)
class Street:
    """
    Attributes:
        left, right: the kerbs' x, metres; the camera drives at x = 0.
        pavement: width of both pavements, metres.
        dividers: x of the lines between lanes.
    """

    left: float
    right: float
    pavement: float
    dividers: tuple[float, ...]


@dataclass(frozen=True)
class Item:
    """Something that stands on the road.

    Attributes:
        kind: KITTI type, or a key of `CLUTTER_SIZES`.
        is_object: whether it is one of the classes (else clutter, never labelled).
        model: which of the kind's models.
        size_hwl, location_xz, rotation_y: as in KITTI's labels.
    """

    kind: str
    is_object: bool
    model: int
    size_hwl: tuple[float, float, float]
    location_xz: tuple[float, float]
    rotation_y: float

    def footprint(self) -> Footprint:
        """The upright rectangle around it on the road."""
        half_x, half_z = _half_extents(self.size_hwl, self.rotation_y)
        x, z = self.location_xz
        return x - half_x, z - half_z, x + half_x, z + half_z


def sample_street(rng: np.random.Generator) -> Street:
    """Draw the number of lanes and the pavements."""
    lanes_left, lanes_right = int(rng.integers(1, 3)), int(rng.integers(0, 2))
    half = LANE_WIDTH / 2
    return Street(
        left=-half - LANE_WIDTH * lanes_left - rng.uniform(0.2, 1.0),
        right=half + LANE_WIDTH * lanes_right + rng.uniform(0.2, 1.0),
        pavement=rng.uniform(2.0, 4.0),
        dividers=tuple(half + LANE_WIDTH * lane for lane in range(-lanes_left, lanes_right)),
    )


def sample_items(
    rng: np.random.Generator, style: SceneStyle, camera: Camera, street: Street
) -> list[Item]:
    """Draw what stands on the street, far to near, nothing inside another."""
    items: list[Item] = []
    taken: list[Footprint] = []

    def place(sample: Callable[[], Item]) -> None:
        for _ in range(_ATTEMPTS):
            item = sample()
            footprint = item.footprint()
            if footprint[1] >= NEAREST and not any(_touch(footprint, other) for other in taken):
                items.append(item)
                taken.append(footprint)
                return

    if rng.random() >= style.empty_share:
        if rng.random() < style.passing_share:
            place(lambda: _passing_vehicle(rng, camera))
        kinds = [kind for kind, _ in style.class_weights]
        weights = np.array([weight for _, weight in style.class_weights])
        count = 1 + rng.poisson(style.objects - 1)
        for kind in rng.choice(len(kinds), size=count, p=weights / weights.sum()):
            place(lambda k=kinds[kind]: _object(rng, style, camera, street, k))
        for _ in range(rng.integers(*style.far_objects, endpoint=True)):
            place(lambda: _far_object(rng, street))
    for _ in range(rng.integers(*style.distractors, endpoint=True)):
        place(lambda: _clutter(rng, camera, street))
    return [items[i] for i in _far_to_near(taken)]


def _object(
    rng: np.random.Generator, style: SceneStyle, camera: Camera, street: Street, kind: str
) -> Item:
    is_person = kind in PERSON_SIZES
    model = 0 if is_person else int(rng.integers(len(VEHICLES[kind])))
    usual = PERSON_SIZES[kind] if is_person else VEHICLES[kind][model].size_hwl
    size_hwl = _scaled(usual, rng.normal(1.0, 0.05, size=3))
    if is_person:  # people's proportions stay
        size_hwl = _scaled(usual, rng.normal(1.0, 0.07))
    is_large = kind in ("Truck", "Tram")
    median = style.box_height * (style.large_class_scale if is_large else 1.0)
    pixels = median * math.exp(rng.normal(0.0, style.box_height_spread))
    nearest = camera.focal * size_hwl[0] / pixels
    rotation_y, x = _pose(rng, camera, street, kind, nearest)
    half_z = _half_extents(size_hwl, rotation_y)[1]
    return Item(kind, True, model, size_hwl, (x, nearest + half_z), rotation_y)


def _passing_vehicle(rng: np.random.Generator, camera: Camera) -> Item:
    """A vehicle that turns or crosses right ahead, seen from the side, most of it in view."""
    kind = ("Car", "Van", "Truck", "Tram")[rng.choice(4, p=(0.5, 0.2, 0.2, 0.1))]
    model = int(rng.integers(len(VEHICLES[kind])))
    size_hwl = _scaled(VEHICLES[kind][model].size_hwl, rng.normal(1.0, 0.05, size=3))
    # So near that its length about fills the view: a car at 4.4 m, a tram at 10 m.
    fills_view = size_hwl[2] * camera.focal / (2 * camera.center_u)
    nearest = max(4.4, fills_view * rng.uniform(0.7, 1.1))
    rotation_y = wrap_angle(rng.choice((0.0, math.pi)) + rng.normal(0.0, 0.25))
    x = rng.normal(0.0, 0.25) * nearest
    half_z = _half_extents(size_hwl, rotation_y)[1]
    return Item(kind, True, model, size_hwl, (x, nearest + half_z), rotation_y)


def _pose(
    rng: np.random.Generator, camera: Camera, street: Street, kind: str, nearest: float
) -> tuple[float, float]:
    """Heading, and x among lanes, kerbs, pavements or anywhere in view."""
    half_view = 0.9 * camera.center_u / camera.focal * nearest
    anywhere = rng.uniform(-half_view, half_view)
    away, towards = -math.pi / 2, math.pi / 2
    if kind == "Person_sitting":  # benches stand on pavements
        edges = (street.left - 0.9, street.right + 0.9)
        in_view = [x for x in edges if abs(x) < half_view] or [min(edges, key=abs)]
        x = float(rng.choice(in_view))
        return wrap_angle(-math.copysign(math.pi / 2, x) + rng.normal(0.0, 0.9) + math.pi / 2), x
    if kind in PERSON_SIZES:
        x = rng.choice((street.left - rng.uniform(0.5, 1.8), street.right + rng.uniform(0.5, 1.8)))
        if abs(x) > half_view or rng.random() < 0.3:
            x = anywhere
        return rng.uniform(-math.pi, math.pi), float(x)
    lanes_left = [-LANE_WIDTH * lane for lane in range(1, 1 + int(-street.left / LANE_WIDTH))]
    ways = [
        (away, 0.0),
        (away, street.right - 1.1),
        (towards, float(rng.choice(lanes_left))),
        (towards, street.left + 1.1),
        (rng.uniform(-math.pi, math.pi), anywhere),
        (float(rng.choice((0.0, math.pi))), anywhere),
    ]
    # Trams come along the street; crossing ones are `_passing_vehicle`s.
    shares = (0.4, 0.0, 0.6, 0.0, 0.0, 0.0) if kind == "Tram" else (0.2, 0.2, 0.2, 0.1, 0.2, 0.1)
    heading, x = ways[rng.choice(len(ways), p=shares)]
    if abs(x) > 1.25 * half_view:
        x = anywhere
    return wrap_angle(heading + rng.normal(0.0, 0.08)), x + rng.normal(0.0, 0.2)


def _far_object(rng: np.random.Generator, street: Street) -> Item:
    """A car or a pedestrian of some 4 to 9 pixels."""
    z = rng.uniform(34.0, 70.0)
    if rng.random() < 0.6:
        heading = math.copysign(math.pi / 2, rng.random() - 0.5)
        x = rng.uniform(street.left + 1, street.right - 1)
        return Item("Car", True, 0, VEHICLES["Car"][0].size_hwl, (x, z), heading)
    x = rng.choice((street.left - 1.0, street.right + 1.0)) + rng.normal(0.0, 0.4)
    return Item("Pedestrian", True, 0, PERSON_SIZES["Pedestrian"], (float(x), z), 0.0)


def _clutter(rng: np.random.Generator, camera: Camera, street: Street) -> Item:
    kinds = list(CLUTTER_SIZES)
    kind = kinds[rng.integers(len(kinds))]
    usual = CLUTTER_SIZES[kind]
    size_hwl = _scaled(usual, rng.uniform(0.8, 1.25))
    beyond = rng.uniform(0.5, street.pavement)
    x = float(rng.choice((street.left - beyond, street.right + beyond)))
    nearest = max(abs(x) * camera.focal / camera.center_u * 0.9, 4.0) + rng.exponential(8.0)
    # Boards and signs face the traffic: their length runs across the road.
    heading = rng.normal(0.0, 0.25) if kind in ("sign", "billboard") else rng.normal(1.57, 0.3)
    half_z = _half_extents(size_hwl, heading)[1]
    return Item(kind, False, 0, size_hwl, (x, nearest + half_z), float(heading))


def _scaled(
    size_hwl: tuple[float, float, float], factor: float | np.ndarray
) -> tuple[float, float, float]:
    return tuple(float(value) for value in np.array(size_hwl) * factor)


def _half_extents(size_hwl: tuple[float, float, float], rotation_y: float) -> tuple[float, float]:
    cos, sin = abs(math.cos(rotation_y)), abs(math.sin(rotation_y))
    _, width, length = size_hwl
    return (cos * length + sin * width) / 2, (sin * length + cos * width) / 2


def _touch(a: Footprint, b: Footprint) -> bool:
    gap = 0.15
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def _hides(a: Footprint, b: Footprint) -> bool:
    """Whether a covers a part of b as seen from x = 0, z = 0."""
    if _view(a)[1] <= _view(b)[0] or _view(b)[1] <= _view(a)[0]:
        return False
    if a[3] <= b[1]:
        return True
    if b[3] <= a[1]:
        return False
    if a[2] <= b[0]:  # a plane x = c between them: the camera's side is in front
        return a[2] + b[0] > 0
    return a[0] + b[2] < 0


def _view(footprint: Footprint) -> tuple[float, float]:
    """The x / z between which it is seen."""
    x_from, z_from, x_to, z_to = footprint
    return min(x_from / z_from, x_from / z_to), max(x_to / z_from, x_to / z_to)


def _far_to_near(footprints: list[Footprint]) -> list[int]:
    """Painter's order: nothing is painted before something that it hides."""
    waiting = sorted(range(len(footprints)), key=lambda i: -footprints[i][1])
    ordered = []
    while waiting:
        hides_none = (
            i
            for i in waiting
            if not any(_hides(footprints[i], footprints[j]) for j in waiting if j != i)
        )
        chosen = next(hides_none, waiting[0])  # a circle of hiding has no right order: farthest
        waiting.remove(chosen)
        ordered.append(chosen)
    return ordered
