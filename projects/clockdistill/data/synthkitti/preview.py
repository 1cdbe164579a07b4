"""A grid of drawn frames with their labels, for the eye."""

import cv2
import numpy as np

from projects.clockdistill.data.synthkitti.render import Frame

_SCALE = 3
_COLOURS = {
    "Car": (255, 60, 60),
    "Van": (60, 255, 60),
    "Truck": (90, 130, 255),
    "Pedestrian": (255, 255, 0),
    "Person_sitting": (255, 0, 255),
    "Cyclist": (0, 255, 255),
    "Tram": (255, 160, 0),
    "DontCare": (190, 190, 190),
}


def preview_grid(frames: list[Frame], columns: int = 3) -> np.ndarray:
    """Frames side by side, each enlarged, with boxes named by type, truncation and occlusion.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    tiles = [_with_labels(frame) for frame in frames]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return np.vstack(rows)


def _with_labels(frame: Frame) -> np.ndarray:
    tile = cv2.resize(frame.image, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC)
    for label in frame.objects:
        left, top, right, bottom = (round(edge * _SCALE) for edge in label.box_xyxy)
        colour = _COLOURS[label.type]
        cv2.rectangle(tile, (left, top), (right, bottom), colour)
        if label.type != "DontCare":
            text = f"{label.type} {label.truncated:.1f} {label.occluded}"
            cv2.putText(tile, text, (left + 2, top + 10), cv2.FONT_HERSHEY_SIMPLEX, 0.35, colour)
    return cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT)
