"""A fixed pinhole camera over a flat road, in KITTI's coordinates: x right, y down, z ahead."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """
    Attributes:
        focal: pixels.
        center_u, center_v: principal point, pixels.
        height: metres above the road, which is the plane y = height.
    """

    focal: float
    center_u: float
    center_v: float
    height: float

    def project(self, points_xyz: np.ndarray) -> np.ndarray:
        """(N, 3) camera coordinates with z > 0 -> (N, 2) pixels."""
        scale = self.focal / points_xyz[:, 2:]
        return points_xyz[:, :2] * scale + (self.center_u, self.center_v)

    def place(
        self, points_fus: np.ndarray, location_xz: tuple[float, float], rotation_y: float
    ) -> np.ndarray:
        """Object's own coordinates -> camera coordinates.

        Args:
            points_fus: (N, 3) metres forward, up and sideways (to the object's right) from the
                centre of the bottom face.
            location_xz: where that centre stands on the road.
            rotation_y: KITTI's heading, 0 along +x, -pi/2 away from the camera.
        """
        location = np.array((location_xz[0], self.height, location_xz[1]))
        return rotate(points_fus, rotation_y) + location

    def ground(self, points_xz: np.ndarray) -> np.ndarray:
        """(N, 2) points of the road -> (N, 2) pixels."""
        scale = self.focal / points_xz[:, 1]
        points_uv = np.empty_like(points_xz)
        points_uv[:, 0] = points_xz[:, 0] * scale + self.center_u
        points_uv[:, 1] = self.height * scale + self.center_v
        return points_uv


def rotate(vectors_fus: np.ndarray, rotation_y: float) -> np.ndarray:
    """(N, 3) directions forward, up, sideways -> (N, 3) directions in camera axes.

    Source: KITTI devkit, computeBox3D.m: x = cos(ry) l + sin(ry) w, z = -sin(ry) l + cos(ry) w.
    """
    cos, sin = math.cos(rotation_y), math.sin(rotation_y)
    # Heading +x, a car's right-hand side looks at the camera: -z. KITTI's w axis is the left.
    turn = np.array(((cos, 0.0, -sin), (0.0, -1.0, 0.0), (-sin, 0.0, -cos)))
    return vectors_fus @ turn  # rows are images of forward, up, sideways


def observation_angle(rotation_y: float, location_xz: tuple[float, float]) -> float:
    """KITTI's alpha: the heading less the direction in which the object is seen, in [-pi, pi]."""
    return wrap_angle(rotation_y - math.atan2(*location_xz))


def wrap_angle(angle: float) -> float:
    """The same direction in [-pi, pi]."""
    return math.remainder(angle, 2 * math.pi)
