"""What a frozen teacher made of images that come again: kept, so that it is not made again."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from projects.clockdistill.modeling.structures import EncodedImages

Encode = Callable[[list[dict[str, Any]]], EncodedImages]


class TeacherCache:
    """The neck's features and the memory of images, by their pixels.

    A frozen teacher makes the same of the same image. Where augmentation leaves few variants of
    an image, such as a flip alone, a long run meets most of them again and again; only the
    teacher's decoder, whose queries are drawn anew in every step, still has to run. An augmentation
    without repeats is as right, and gains nothing.

    Nothing of it is saved. It lies where the teacher computes.

    Args:
        max_bytes: where it ends; what does not fit any more is encoded each time. 0 for no cache.

    Raises:
        ValueError: if `max_bytes` is below 0.
    """

    def __init__(self, max_bytes: int):
        if max_bytes < 0:
            raise ValueError(f"the teacher's cache cannot hold {max_bytes} bytes")
        self.max_bytes = max_bytes
        self._kept: dict[bytes, EncodedImages] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Number of images that are kept."""
        return len(self._kept)

    def encoded(
        self, batched_inputs: Sequence[dict[str, Any]], encode: Encode
    ) -> EncodedImages | None:
        """What the teacher makes of a batch, of which it encodes the unknown images alone.

        Args:
            batched_inputs: each with "image" (3, H, W).
            encode: runs backbone, neck and encoder on some of them.

        Returns:
            The whole batch's; None without a cache, and if its images differ in size: their
            padding, and with it what a detector makes of them, depends on the others.
        """
        if not self.max_bytes or len({tuple(entry["image"].shape) for entry in batched_inputs}) > 1:
            return None
        keys = [_key(entry["image"]) for entry in batched_inputs]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        unknown = {
            key: entry for key, entry in zip(keys, batched_inputs, strict=True) if key not in found
        }
        if unknown:
            images = encode(list(unknown.values())).split()
            for key, image in zip(unknown, images, strict=True):
                found[key] = image
                self._keep(key, image)
        return EncodedImages.cat([found[key] for key in keys])

    def _keep(self, key: bytes, image: EncodedImages) -> None:
        if self._bytes + image.nbytes <= self.max_bytes:
            self._kept[key] = image.clone()  # not a view that holds the whole batch
            self._bytes += image.nbytes


def _key(image: Tensor) -> bytes:
    """Digest of an image's size and pixels."""
    pixels = image.detach().cpu().contiguous()
    digest = hashlib.blake2b(str((pixels.dtype, *pixels.shape)).encode(), digest_size=16)
    digest.update(pixels.view(torch.uint8).numpy().tobytes())
    return digest.digest()
