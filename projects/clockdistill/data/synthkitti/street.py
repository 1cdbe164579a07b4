"""The scenery behind the traffic: sky, houses, road, kerbs, pavements and their shadows."""

import cv2
import numpy as np

from projects.clockdistill.data.synthkitti.camera import Camera
from projects.clockdistill.data.synthkitti.canvas import Canvas
from projects.clockdistill.data.synthkitti.layout import LANE_WIDTH, Item, Street
from projects.clockdistill.data.synthkitti.light import Light

_HALF_GAUGE = 0.72  # metres, of tram rails
_FAR = 150.0  # metres: where the road meets the horizon
_WALLS = ((176, 152, 126), (196, 184, 164), (158, 108, 86), (140, 144, 150), (206, 190, 150))
_VERGES = ((98, 116, 66), (132, 128, 120), (112, 104, 88))


def draw_scenery(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    rng: np.random.Generator,
    street: Street,
    items: list[Item],
) -> None:
    """Paint everything that stands behind or under the items, their shadows included."""
    _draw_sky(canvas, camera, light, rng)
    _draw_ground(canvas, camera, rng, street)
    _light_ground(canvas, camera, light, rng, items)
    _draw_houses(canvas, camera, light, rng, street)


def _draw_sky(canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator) -> None:
    height, width = int(camera.center_v), canvas.width
    share = np.linspace(0.0, 1.0, height)[:, None]
    gradient = light.sky_top + share * (light.sky_bottom - light.sky_top)
    coarse = np.clip(12.0 * rng.standard_normal((4, 9)), 0.0, 18.0).astype(np.float32)
    clouds = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    canvas.repaint(0, cv2.convertScaleAbs(_rgb(clouds) + _across(gradient, width)))
    # A line of far trees and roofs, almost gone in the haze.
    steps = np.linspace(0.0, width, 24)
    tops = camera.center_v - rng.uniform(1.0, 6.0, size=24)
    outline = np.stack((steps, tops), axis=1)
    corners = np.array([(steps[-1], camera.center_v + 1), (0.0, camera.center_v + 1)])
    colour = light.fade(np.array([[96.0, 108.0, 96.0]]), 0.8 * light.haze_distance)[0]
    canvas.polygon(np.concatenate((outline, corners)), tuple(colour.tolist()))


def _draw_ground(canvas: Canvas, camera: Camera, rng: np.random.Generator, street: Street) -> None:
    near = 0.95 * camera.focal * camera.height / (canvas.height - camera.center_v)

    def band(x_from: float, x_to: float, colour, z_from: float = near, z_to: float = _FAR) -> None:
        corners = [(x_from, z_from), (x_to, z_from), (x_to, z_to), (x_from, z_to)]
        canvas.polygon(camera.ground(np.array(corners)), tuple(colour))

    verge = np.array(_VERGES[rng.integers(len(_VERGES))], dtype=np.uint8)
    top = int(camera.center_v)
    canvas.repaint(top, np.full((canvas.height - top, canvas.width, 3), verge))
    asphalt = rng.uniform(88, 128) + rng.normal(0.0, 3.0, size=3)
    paving = rng.uniform(140, 176) + rng.normal(0.0, 5.0, size=3)
    band(street.left - street.pavement, street.left, paving)
    band(street.right, street.right + street.pavement, paving)
    band(street.left, street.right, asphalt)
    for kerb in (street.left, street.right):
        band(kerb - 0.1, kerb + 0.1, paving * 1.25)
    if rng.random() < 0.3:
        for rail in (-_HALF_GAUGE, _HALF_GAUGE):
            band(rail - LANE_WIDTH - 0.05, rail - LANE_WIDTH + 0.05, asphalt * 0.6)
    dashes = np.arange(near + rng.uniform(0.0, 6.0), 60.0, 6.0)
    stripes = [(x - 0.07, x + 0.07, z, z + 3.0) for x in street.dividers for z in dashes]
    if rng.random() < 0.25:  # a crossing
        z = rng.uniform(7.0, 14.0)
        starts = np.arange(street.left + 0.4, street.right - 0.5, 1.0)
        stripes += [(x, x + 0.5, z, z + 2.5) for x in starts]
    corners = np.array(stripes)[:, [0, 2, 1, 2, 1, 3, 0, 3]].reshape(-1, 2)
    canvas.polygons(camera.ground(corners).reshape(-1, 4, 2), (226.0, 226.0, 220.0))


def _light_ground(
    canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator, items: list[Item]
) -> None:
    """Stains, shadows of the items, and the haze of distance, in one pass over the ground."""
    top, width = int(camera.center_v), canvas.width
    ground = canvas.picture()[top:]
    rows = len(ground)
    coarse = rng.standard_normal((14, 40)).astype(np.float32)
    stains = cv2.resize(coarse, (width, rows), interpolation=cv2.INTER_LINEAR)
    shadows = cv2.blur(_shadow_mask(canvas, camera, light, items)[top:], (3, 3))
    brightness = light.ambient + 0.6 * light.diffuse
    factor = (brightness + 0.04 * brightness * stains) * (
        1.0 - np.float32(light.shadow / 255.0) * shadows
    )
    distance = camera.focal * camera.height / (np.arange(rows) + 0.5)
    share = (1.0 - np.exp(-distance / light.haze_distance)).astype(np.float32)
    factor *= (1.0 - share)[:, None]
    haze = _across(share[:, None] * light.haze_colour, width)
    canvas.repaint(top, cv2.convertScaleAbs(ground * _rgb(factor) + haze))


def _rgb(grey: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W, 3); NumPy's own broadcast along an axis of 3 is ten times slower."""
    return cv2.merge((grey, grey, grey))


def _across(row_colours: np.ndarray, width: int) -> np.ndarray:
    """(H, 3) one colour a row -> (H, width, 3) float32."""
    return np.tile(row_colours.astype(np.float32), width).reshape(len(row_colours), width, 3)


def _shadow_mask(canvas: Canvas, camera: Camera, light: Light, items: list[Item]) -> np.ndarray:
    mask = np.zeros((canvas.height, canvas.width), dtype=np.uint8)
    x_per_up, z_per_up = light.toward_sun[[0, 2]] / light.toward_sun[1]
    for item in items:
        height, width, length = item.size_hwl
        corners = np.array([(f, 0.0, s) for f in (-0.5, 0.5) for s in (-0.5, 0.5)])
        corners = corners * (length, 1.0, width)
        foot = camera.place(corners, item.location_xz, item.rotation_y)[:, [0, 2]]
        tip = foot + np.array([x_per_up, z_per_up]) * min(height, 2.5)
        outline = np.concatenate((foot, tip))
        outline[:, 1] = np.maximum(outline[:, 1], 2.0)
        points = np.clip(camera.ground(outline), -8000, 8000)
        hull = cv2.convexHull(points.astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 255)
    return mask


def _draw_houses(
    canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator, street: Street
) -> None:
    """Rows of houses along both pavements, far to near, with gaps."""
    for side, kerb in ((-1, street.left), (1, street.right)):
        if rng.random() < 0.15:
            continue
        wall_x = kerb + side * (street.pavement + rng.uniform(0.0, 2.0))
        starts, z = [], rng.uniform(3.0, 12.0)
        while z < 75.0:
            depth = rng.uniform(7.0, 14.0)
            starts.append((z, depth, rng.uniform(4.0, 11.0)))
            z += depth + (0.0 if rng.random() < 0.6 else rng.uniform(2.0, 8.0))
        for z, depth, height in reversed(starts):
            _draw_house(canvas, camera, light, rng, (wall_x, side), (z, depth, height))


def _draw_house(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    rng: np.random.Generator,
    wall: tuple[float, int],
    extent: tuple[float, float, float],
) -> None:
    (x, side), (z, depth, height) = wall, extent
    z_from = max(z, 1.5)
    colour = np.array(_WALLS[rng.integers(len(_WALLS))]) + rng.normal(0.0, 10.0, size=3)
    # The gable towards the camera, then the front along the street.
    faces = np.array(
        [
            [
                (x, 0.0, z_from),
                (x, height, z_from),
                (x + 9 * side, height, z_from),
                (x + 9 * side, 0.0, z_from),
            ],
            [(x, 0.0, z_from), (x, height, z_from), (x, height, z + depth), (x, 0.0, z + depth)],
        ]
    )
    normals = np.array([(0.0, 0.0, -1.0), (-side, 0.0, 0.0)])
    shaded = light.shade(np.stack((colour, colour)), normals, z + depth / 2)
    for face, lit in zip(faces, shaded, strict=True):
        canvas.polygon(_project_up(camera, face), tuple(lit.tolist()))
    floors, bays = int(height / 2.9), int((z + depth - z_from) / 2.6)
    if z > 45.0 or floors == 0 or bays == 0:
        return
    zs = z_from + (np.arange(bays) + 0.3) * (z + depth - z_from) / bays
    ups = (np.arange(floors) + 0.32) * height / floors
    low, start = np.meshgrid(ups, zs, indexing="ij")
    low, start = low.ravel(), start.ravel()
    corners = [(low, start), (low + 1.4, start), (low + 1.4, start + 1.1), (low, start + 1.1)]
    panes = np.stack([np.stack((np.full_like(u, x), u, zz), axis=1) for u, zz in corners], axis=1)
    glass = light.shade(np.array([[70.0, 82.0, 94.0]]), normals[1:], z + depth / 2)[0]
    points = _project_up(camera, panes.reshape(-1, 3)).reshape(-1, 4, 2)
    canvas.polygons(points, tuple(glass.tolist()))


def _project_up(camera: Camera, points: np.ndarray) -> np.ndarray:
    """(N, 3) points of x, height above the road, z -> pixels."""
    return camera.project(points * (1.0, -1.0, 1.0) + (0.0, camera.height, 0.0))
