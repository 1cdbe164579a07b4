"""Things that look a little like the classes and are none: signs, boxes, boards, posts, trees."""

import numpy as np

from projects.clockdistill.data.synthkitti.camera import Camera
from projects.clockdistill.data.synthkitti.canvas import Canvas
from projects.clockdistill.data.synthkitti.layout import Item
from projects.clockdistill.data.synthkitti.light import Light
from projects.clockdistill.data.synthkitti.mesh import MeshBuilder, draw_mesh

_POLE = (112, 116, 120)
_SIGN_FACES = ((214, 40, 40), (40, 84, 168), (240, 202, 52), (240, 240, 240))
_BOXES = ((168, 132, 88), (62, 98, 72), (72, 92, 124), (150, 58, 44), (120, 122, 124))
_LEAVES = ((66, 96, 44), (84, 112, 52), (96, 104, 58), (122, 112, 48))
_UNIT_BOX = (-0.5, 0.0, -0.5), (0.5, 1.0, 0.5)


def _crate_mesh():
    builder = MeshBuilder()
    builder.box(*_UNIT_BOX, "body")
    builder.on_sides([(-0.42, 0.1), (0.42, 0.1), (0.42, 0.9), (-0.42, 0.9)], "panel")
    builder.on_end((-0.42, 0.42), (0.5, 0.1), (0.5, 0.9), "panel")
    builder.on_end((-0.42, 0.42), (-0.5, 0.1), (-0.5, 0.9), "panel")
    return builder.build()


def _billboard_mesh():
    builder = MeshBuilder()
    for forward in (-0.4, 0.36):
        builder.box((forward, 0.0, -0.2), (forward + 0.05, 0.4, 0.2), "pole")
    builder.box((-0.5, 0.35, -0.5), (0.5, 1.0, 0.5), "body")
    builder.on_sides([(-0.46, 0.4), (0.46, 0.4), (0.46, 0.95), (-0.46, 0.95)], "panel")
    builder.on_sides([(-0.35, 0.45), (0.1, 0.45), (0.0, 0.7), (-0.3, 0.7)], "picture")
    builder.on_sides([(0.15, 0.6), (0.4, 0.6), (0.4, 0.85), (0.15, 0.85)], "body")
    return builder.build()


def _kiosk_mesh():
    builder = MeshBuilder()
    builder.box((-0.45, 0.0, -0.45), (0.45, 0.85, 0.45), "body")
    builder.on_sides([(-0.35, 0.4), (0.35, 0.4), (0.35, 0.75), (-0.35, 0.75)], "panel", 0.45)
    builder.on_end((-0.35, 0.35), (0.45, 0.4), (0.45, 0.75), "panel")
    builder.on_end((-0.35, 0.35), (-0.45, 0.4), (-0.45, 0.75), "panel")
    builder.box((-0.5, 0.85, -0.5), (0.5, 1.0, 0.5), "picture")
    return builder.build()


def _bench_mesh():
    builder = MeshBuilder()
    for forward in (-0.4, 0.3):
        for side in (-0.45, 0.4):
            builder.box((forward, 0.0, side), (forward + 0.08, 0.9, side + 0.05), "pole")
    builder.box((-0.5, 0.85, -0.5), (0.5, 1.0, 0.5), "body")
    return builder.build()


_MESHES = {
    "crate": _crate_mesh(),
    "container": _crate_mesh(),
    "billboard": _billboard_mesh(),
    "kiosk": _kiosk_mesh(),
}
_BENCH = _bench_mesh()


def draw_clutter(
    canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator, item: Item
) -> None:
    """Paint one thing that is no object."""
    if item.kind in _MESHES:
        body = np.array(_BOXES[rng.integers(len(_BOXES))]) + rng.normal(0.0, 10.0, size=3)
        body = np.clip(body, 10, 245)
        palette = {
            "body": tuple(body),
            "panel": tuple(np.clip(body * rng.uniform(0.7, 1.3), 0, 250)),
            "picture": tuple(rng.uniform(40, 230, size=3)),
            "pole": _POLE,
        }
        if item.kind == "billboard":
            palette["panel"] = tuple(rng.uniform(150, 240, size=3))
        mesh = _MESHES[item.kind]
        size, place = item.size_hwl, item.location_xz
        draw_mesh(canvas, camera, light, mesh, palette, size, place, item.rotation_y)
    elif item.kind == "tree":
        _draw_tree(canvas, camera, light, rng, item)
    else:
        _draw_post(canvas, camera, light, rng, item)


def draw_bench(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    location_xz: tuple[float, float],
    rotation_y: float,
) -> None:
    """A bench 0.45 m high under someone who sits at this place."""
    palette = {"body": (128, 92, 60), "pole": (60, 60, 62)}
    draw_mesh(canvas, camera, light, _BENCH, palette, (0.45, 1.3, 0.5), location_xz, rotation_y)


def _upright(camera: Camera, item: Item, ups: list[float]) -> np.ndarray:
    points = np.array([(0.0, up, 0.0) for up in ups])
    return camera.project(camera.place(points, item.location_xz, item.rotation_y))


def _lit(light: Light, colour: tuple[float, ...], distance: float) -> tuple[float, ...]:
    towards_camera = np.array([[0.0, -0.3, -0.95]])
    return tuple(light.shade(np.array([colour], dtype=float), towards_camera, distance)[0].tolist())


def _draw_post(
    canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator, item: Item
) -> None:
    height, distance = item.size_hwl[0], item.location_xz[1]
    scale = camera.focal / distance
    foot, middle, top = _upright(camera, item, [0.0, 0.82 * height, height])
    thickness = (0.22 if item.kind == "bollard" else 0.1) * scale
    canvas.stroke(np.stack((foot, top)), thickness, _lit(light, _POLE, distance))
    if item.kind == "lamp_post":
        lamp = top + np.array((1.2 * rng.choice((-1, 1)), -0.2)) * scale
        arm = np.stack((top, lamp))
        canvas.stroke(arm, 0.1 * scale, _lit(light, _POLE, distance))
    elif item.kind == "bollard":
        half = np.array((0, 0.05 * scale))
        band = np.stack((middle - half, middle + half))
        canvas.stroke(band, 0.24 * scale, _lit(light, (206, 60, 40), distance))
    elif item.kind == "sign":
        face = _lit(light, _SIGN_FACES[rng.integers(len(_SIGN_FACES))], distance)
        radius, shape = 0.36 * scale, rng.integers(3)
        if shape == 0:
            canvas.disc(middle, radius, face)
            canvas.disc(middle, 0.65 * radius, _lit(light, (242, 242, 242), distance))
        else:
            corners = 3 if shape == 1 else 4
            angles = (2 * np.arange(corners) + (1.5 if shape == 1 else 1.0)) * np.pi / corners
            offsets = radius * 1.2 * np.stack((np.cos(angles), -np.sin(angles)), axis=1)
            canvas.polygon(middle + offsets, face)


def _draw_tree(
    canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator, item: Item
) -> None:
    height, distance = item.size_hwl[0], item.location_xz[1]
    scale = camera.focal / distance
    trunk = _upright(camera, item, [0.0, 0.6 * height])
    canvas.stroke(trunk, 0.26 * scale, _lit(light, (84, 66, 50), distance))
    leaf = np.array(_LEAVES[rng.integers(len(_LEAVES))], dtype=float)
    crown = _upright(camera, item, [0.7 * height])[0]
    offsets = rng.normal(0.0, 0.55 * scale, size=(9, 2))
    # Low and sunless first, high and bright last.
    for offset in offsets[np.argsort(-offsets[:, 1])]:
        brightness = 0.85 - 0.25 * offset[1] / scale
        canvas.disc(crown + offset, 0.62 * scale, _lit(light, tuple(leaf * brightness), distance))
