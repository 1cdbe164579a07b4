"""Where the painters draw: colour and instance number in one buffer, so that they never differ."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

SUPERSAMPLING = 2  # canvas cells per image pixel and axis; shrinking smooths the edges
_SHIFT = 4  # OpenCV takes vertices as integers with this many fractional bits
_LIMIT = 4000.0  # pixels; farther vertices are pulled in, or OpenCV's integers overflow

Colour = tuple[float, float, float]  # red, green, blue, 0 to 255


class Canvas:
    """A picture of height x width pixels, painted far to near.

    Attributes:
        width, height: pixels.
        cells: (2 * height, 2 * width, 4) uint8: red, green, blue, instance number (0 = none).
        instance: number that the next strokes carry.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.cells = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING, 4), dtype=np.uint8)
        self.instance = 0
        self._strokes: list[np.ndarray] = []

    def begin(self, instance: int) -> None:
        """Start drawing an instance: forget the extent of the one before."""
        self.instance = instance
        self._strokes = []

    def extent_xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels of all strokes since `begin`, not clipped."""
        points = np.concatenate(self._strokes)
        return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())

    def count_cells(self, instance: int, within_xyxy: tuple[float, float, float, float]) -> int:
        """Canvas cells that show the instance now; it must lie within that box of pixels."""
        left, top, right, bottom = (
            max(0, math.floor(edge * SUPERSAMPLING) - 1) for edge in within_xyxy
        )
        numbers = self.cells[top : bottom + 3, left : right + 3, 3]
        return int(np.count_nonzero(numbers == instance))

    def faces(
        self, points: np.ndarray, faces: Sequence[np.ndarray], colours: Sequence[Colour]
    ) -> None:
        """Fill convex polygons in order.

        Args:
            points: (N, 2) pixels.
            faces: indices into points, one array a polygon.
            colours: one for each polygon.
        """
        cells, instance = self.cells, self.instance
        fixed = self._fixed(points)
        for face, colour in zip(faces, colours, strict=True):
            cv2.fillConvexPoly(cells, fixed[face], (*colour, instance), cv2.LINE_8, _SHIFT)

    def polygon(self, points: np.ndarray, colour: Colour) -> None:
        """Fill one polygon, (N, 2) pixels, convex or not."""
        fixed = self._fixed(points)
        cv2.fillPoly(self.cells, [fixed], (*colour, self.instance), cv2.LINE_8, _SHIFT)

    def polygons(self, points: np.ndarray, colour: Colour) -> None:
        """Fill many polygons with one colour, (M, N, 2) pixels, none overlapping another."""
        fixed = self._fixed(points.reshape(-1, 2)).reshape(points.shape)
        cv2.fillPoly(self.cells, list(fixed), (*colour, self.instance), cv2.LINE_8, _SHIFT)

    def stroke(self, points: np.ndarray, thickness: float, colour: Colour) -> None:
        """Draw an open line with round ends through (N, 2) pixels, thickness in pixels."""
        cells_wide = max(1, round(thickness * SUPERSAMPLING))
        fixed = self._fixed(points, margin=thickness / 2)
        cv2.polylines(
            self.cells,
            [fixed],
            False,
            (*colour, self.instance),
            cells_wide,
            cv2.LINE_8,
            _SHIFT,
        )

    def disc(self, center: np.ndarray, radius: float, colour: Colour) -> None:
        """Fill a disc, center (2,) and radius in pixels."""
        fixed = self._fixed(center[None], margin=radius)[0]
        fixed_radius = int(radius * SUPERSAMPLING * (1 << _SHIFT))
        cv2.circle(
            self.cells,
            (int(fixed[0]), int(fixed[1])),
            fixed_radius,
            (*colour, self.instance),
            cv2.FILLED,
            cv2.LINE_8,
            _SHIFT,
        )

    def repaint(self, first_row: int, picture: np.ndarray) -> None:
        """Replace rows of pixels, (rows, width, 3) uint8 from `first_row` down, by no instance."""
        size = (self.cells.shape[1], picture.shape[0] * SUPERSAMPLING)
        start = first_row * SUPERSAMPLING
        with_instance = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
        with_instance[:, :, 3] = 0
        cells = cv2.resize(with_instance, size, interpolation=cv2.INTER_NEAREST)
        self.cells[start : start + size[1]] = cells

    def picture(self) -> np.ndarray:
        """The finished picture, (height, width, 3) uint8 RGB."""
        height, width = self.cells.shape[:2]
        size = (width // SUPERSAMPLING, height // SUPERSAMPLING)
        return cv2.resize(self.cells, size, interpolation=cv2.INTER_AREA)[:, :, :3]

    def _fixed(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        if self.instance:  # clutter has no extent
            self._strokes += (points - margin, points + margin) if margin else (points,)
        # OpenCV's coordinate 0 is the middle of the first cell, ours its edge.
        limited = np.minimum(np.maximum(points, -_LIMIT), _LIMIT)
        steps = limited * (SUPERSAMPLING << _SHIFT) - (1 << _SHIFT) / 2
        return np.rint(steps).astype(np.int32)
