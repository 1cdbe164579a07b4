"""Videos, frame by frame, by OpenCV."""

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from projects.clockdistill.errors import UserError

logger = logging.getLogger(__name__)

CODEC = "mp4v"  # the MP4 codec that every build of OpenCV writes
_FRAMES_PER_SECOND = 25.0  # where a file does not say


class VideoReader:
    """Iterates over the frames of a video, (H, W, 3) uint8 in BGR order, upright.

    Attributes:
        frames_per_second: of the file.
        frames: their number as the file says, which may be wrong; None if it does not say.

    Raises:
        UserError: if the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise UserError(f"unreadable video {path}: OpenCV cannot open it")
        frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frames = frames if frames > 0 else None
        self.frames_per_second = self._capture.get(cv2.CAP_PROP_FPS)
        if not 0 < self.frames_per_second < 1000:
            logger.warning("%s has no frame rate: %g per second", path, _FRAMES_PER_SECOND)
            self.frames_per_second = _FRAMES_PER_SECOND

    def __iter__(self) -> Iterator[np.ndarray]:
        read = 0
        try:
            while True:
                found, frame = self._capture.read()
                if not found:
                    break
                read += 1
                yield frame
        finally:
            self._capture.release()
        if read == 0:
            raise UserError(f"unreadable video {self._path}: OpenCV finds no frame in it")
        if self.frames is not None and read < self.frames:
            logger.warning("%s: read %d of %d frames", self._path, read, self.frames)


class VideoWriter:
    """Writes an MP4 file; the first frame gives the size. Used as a context.

    The codec needs even sizes: of others it leaves out the last row or column.

    Args:
        path: the file.
        frames_per_second: of the video.
    """

    def __init__(self, path: Path, frames_per_second: float) -> None:
        self._path = path
        self._rate = frames_per_second
        self._size = (0, 0)
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, frame: np.ndarray) -> None:
        """Writes a frame, (H, W, 3) uint8 in BGR order.

        Raises:
            UserError: if OpenCV cannot write the file.
        """
        if self._writer is None:
            height, width = (side - side % 2 for side in frame.shape[:2])
            codec = cv2.VideoWriter.fourcc(*CODEC)
            self._writer = cv2.VideoWriter(str(self._path), codec, self._rate, (width, height))
            if not self._writer.isOpened():
                raise UserError(f"{self._path}: this OpenCV cannot write MP4 with {CODEC}")
            self._size = width, height
            logger.info(
                "%s: codec %s, %d x %d, %g frames/s", self._path, CODEC, width, height, self._rate
            )
        width, height = self._size
        if frame.shape[0] < height or frame.shape[1] < width:  # the writer would drop it silently
            frame = cv2.resize(frame, self._size)
        self._writer.write(np.ascontiguousarray(frame[:height, :width]))
