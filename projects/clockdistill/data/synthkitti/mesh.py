"""Solids of flat faces, built once in unit size, drawn by projection and back-face culling."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from projects.clockdistill.data.synthkitti.camera import Camera, rotate
from projects.clockdistill.data.synthkitti.canvas import Canvas
from projects.clockdistill.data.synthkitti.light import Light

Point = tuple[float, float]


@dataclass(frozen=True)
class Mesh:
    """Faces in painting order: a later face lies before or on an earlier one.

    Coordinates are (forward, up, sideways) in shares of length, height and width: forward and
    sideways in [-0.5, 0.5], up in [0, 1].

    Attributes:
        vertices: (V, 3).
        faces: indices into vertices, each a convex polygon.
        normals: (F, 3), outward, not scaled.
        middles: (F, 3), a point of each face.
        materials: name of each face's colour.
        always: (F,) bool, True = drawn from behind, too.
    """

    vertices: np.ndarray
    faces: tuple[np.ndarray, ...]
    normals: np.ndarray
    middles: np.ndarray
    materials: tuple[str, ...]
    always: np.ndarray


class MeshBuilder:
    """Collects faces; every method returns nothing and appends in painting order."""

    def __init__(self) -> None:
        self._polygons: list[np.ndarray] = []
        self._normals: list[np.ndarray] = []
        self._materials: list[str] = []
        self._always: list[bool] = []

    def face(self, points: Sequence, normal: Sequence, material: str, always: bool = False) -> None:
        """One flat convex polygon, (N, 3), with its outward direction."""
        self._polygons.append(np.asarray(points, dtype=np.float64))
        self._normals.append(np.asarray(normal, dtype=np.float64))
        self._materials.append(material)
        self._always.append(always)

    def prism(
        self,
        profile: Sequence[Point],
        material: str,
        half_width: float = 0.5,
        half_width_top: float | None = None,
    ) -> None:
        """A convex side view (forward, up) given sideways extent, narrower at the top if asked."""
        top = half_width if half_width_top is None else half_width_top
        ups = np.array([up for _, up in profile])
        share = (ups - ups.min()) / (ups.max() - ups.min())
        halves = half_width + share * (top - half_width)
        right = np.array([(f, u, h) for (f, u), h in zip(profile, halves, strict=True)])
        left = right * (1, 1, -1)
        middle = np.array([np.mean(right[:, 0]), np.mean(ups), 0.0])
        for index in range(len(profile)):
            following = (index + 1) % len(profile)
            strip = np.stack((left[index], left[following], right[following], right[index]))
            normal = np.cross(strip[1] - strip[0], strip[3] - strip[0])
            outward = np.sign(normal @ (strip.mean(axis=0) - middle))
            self.face(strip, normal * outward, material)
        tilt = half_width - top
        self.face(right, (0, tilt, 1), material)
        self.face(left, (0, tilt, -1), material)

    def on_sides(self, points: Sequence[Point], material: str, half: float | Sequence = 0.5):
        """A polygon (forward, up) on both sides; `half` sideways, one number or one a point."""
        halves = np.broadcast_to(half, len(points))
        for sign in (1, -1):
            polygon = [(f, u, sign * h) for (f, u), h in zip(points, halves, strict=True)]
            self.face(polygon, (0, 0, sign), material)

    def on_end(
        self,
        sideways: Point,
        low: Point,
        high: Point,
        material: str,
        mirrored: bool = False,
    ) -> None:
        """A quad across the front or rear between two (forward, up) lines.

        Args:
            sideways: extent (from, to) in shares of the width.
            low, high: (forward, up) of the lower and of the upper edge.
            mirrored: whether to repeat it on the other side.
        """
        spans = [sideways, (-sideways[1], -sideways[0])] if mirrored else [sideways]
        direction = 1.0 if low[0] + high[0] > 0 else -1.0
        normal = (direction * abs(high[1] - low[1]), abs(low[0] - high[0]), 0.0)
        for start, end in spans:
            corners = [(*low, start), (*low, end), (*high, end), (*high, start)]
            self.face(corners, normal, material)

    def wheels(self, forwards: Sequence[float], radius: Point, under: bool) -> None:
        """Wheels at both sides. Call with under=True before the body, with False after it."""
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        rim = np.stack((np.cos(angles) * radius[0], np.sin(angles) * radius[1]), axis=1)
        for forward in forwards:
            disc = rim + np.array((forward, radius[1]))
            if under:
                for half in (0.42, -0.42):
                    polygon = [(f, u, half) for f, u in disc]
                    self.face(polygon, (0, 0, np.sign(half)), "tyre", always=True)
            else:
                self.on_sides([tuple(p) for p in disc], "tyre")
                hub = rim * 0.55 + np.array((forward, radius[1]))
                self.on_sides([tuple(p) for p in hub], "hub")

    def box(self, low: Sequence[float], high: Sequence[float], material: str) -> None:
        """An upright box between two corners (forward, up, sideways)."""
        profile = [(low[0], low[1]), (low[0], high[1]), (high[0], high[1]), (high[0], low[1])]
        start = len(self._polygons)
        self.prism(profile, material, half_width=(high[2] - low[2]) / 2)
        shift = (0, 0, (high[2] + low[2]) / 2)
        self._polygons[start:] = [polygon + shift for polygon in self._polygons[start:]]

    def build(self) -> Mesh:
        """Freeze what was collected."""
        counts = np.cumsum([0, *map(len, self._polygons)])
        return Mesh(
            vertices=np.concatenate(self._polygons),
            faces=tuple(np.arange(a, b) for a, b in itertools.pairwise(counts)),
            normals=np.stack(self._normals),
            middles=np.stack([polygon.mean(axis=0) for polygon in self._polygons]),
            materials=tuple(self._materials),
            always=np.array(self._always),
        )


def draw_mesh(
    canvas: Canvas,
    camera: Camera,
    light: Light,
    mesh: Mesh,
    palette: Mapping[str, tuple[float, float, float]],
    size_hwl: tuple[float, float, float],
    location_xz: tuple[float, float],
    rotation_y: float,
) -> None:
    """Paint a mesh on the canvas.

    Args:
        palette: colour of each material, 0 to 255.
        size_hwl: metres.
        location_xz: centre of the bottom face on the road.
        rotation_y: KITTI's heading.
    """
    height, width, length = size_hwl
    scale = np.array([length, height, width])
    placed = camera.place(mesh.vertices * scale, location_xz, rotation_y)
    middles = camera.place(mesh.middles * scale, location_xz, rotation_y)
    normals = rotate(mesh.normals / scale, rotation_y)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    seen = mesh.always | ((normals * middles).sum(axis=1) < 0)
    colours = np.array([palette[material] for material in mesh.materials], dtype=np.float64)
    shaded = light.shade(colours, normals, distance=location_xz[1]).tolist()
    chosen = np.flatnonzero(seen)
    canvas.faces(
        camera.project(placed), [mesh.faces[i] for i in chosen], [shaded[i] for i in chosen]
    )
