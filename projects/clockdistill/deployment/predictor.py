"""Pictures in, detections out, from a run folder, a config and weights, or an exported file."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from detectron2.structures import Instances
from omegaconf import DictConfig
from PIL import Image
from torch import nn

from projects.clockdistill.deployment import runtimes
from projects.clockdistill.deployment.images import detector_input, fitted_size, read_image
from projects.clockdistill.deployment.inputs import require_one_picture
from projects.clockdistill.deployment.loading import choose_device, find_run, load_detector
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.config_file import ConfigError, load_config
from projects.clockdistill.errors import UserError

logger = logging.getLogger(__name__)

Picture: TypeAlias = np.ndarray | Image.Image | str | Path
EXPORTED = (".onnx", ".xml", ".pt2")


class Predictor:
    """Detects objects in pictures as the evaluation of the detector does.

    Args:
        source: the folder of a run; an exported .onnx, .xml (OpenVINO) or .pt2 file; or with
            `weights` a config or its file.
        weights: of a config's detector.
        threshold: lowest score of a detection; by default the spec's.
        device: of torch, for what is not exported; by default an accelerator if there is one.

    Attributes:
        spec: classes, input and origin of the detector.
        threshold: lowest score of a detection.

    Raises:
        ConfigError, CheckpointError, ValueError: if the source cannot be used; with the fix.
    """

    def __init__(
        self,
        source: str | Path | DictConfig,
        weights: str | Path | None = None,
        *,
        threshold: float | None = None,
        device: str | None = None,
    ) -> None:
        self._limits: tuple[int, int] | None = None  # largest (height, width) of the input
        if not isinstance(source, DictConfig) and Path(source).suffix in EXPORTED:
            runtime = runtimes.open_model(source)
            self._detector, self.spec = runtimes.ExportedDetector(runtime), runtime.spec
            self._limits = runtime.height, runtime.width
            logger.info(
                "%s: images of at most %d x %d; larger ones are made to fit", source, *self._limits
            )
        else:
            self._detector, self.spec = _load(source, weights, choose_device(device))
        self.threshold = self.spec.threshold if threshold is None else threshold
        if not 0 <= self.threshold <= 1:
            raise UserError(f"threshold {threshold} is not a score. Fix: use 0 to 1")

    @torch.no_grad()
    def __call__(self, images: Picture | Sequence[Picture]) -> Instances | list[Instances]:
        """Detects the objects of one picture, or of a batch of pictures.

        Args:
            images: each a path, a Pillow image or an array in BGR order, as `read_image` takes it.

        Returns:
            Per picture, on the CPU and by falling score: `pred_boxes` (absolute xyxy in pixels of
            the upright picture), `scores` in [0, 1] and `pred_classes`.
        """
        one = isinstance(images, np.ndarray | Image.Image | str | Path)
        images = [images] if one else images
        for image in images:
            if isinstance(image, str | Path):
                require_one_picture(image)
        batch = [self._input(read_image(image)) for image in images]
        outputs = self._detector(batch) if batch else []
        found = [output["instances"].to("cpu") for output in outputs]
        found = [instances[instances.scores >= self.threshold] for instances in found]
        return found[0] if one else found

    def _input(self, image: np.ndarray) -> dict[str, Any]:
        """Returns an RGB image (H, W, 3) as detectors take it, resized as `ModelSpec` says."""
        size = self.spec.input_size(*image.shape[:2])
        if self._limits is not None:
            size = fitted_size(*size, self._limits)
        return detector_input(image, size)


def _load(
    source: str | Path | DictConfig, weights: str | Path | None, device: str
) -> tuple[nn.Module, ModelSpec]:
    """Loads the detector of a run folder, or of a config and weights."""
    if weights is not None:
        cfg = source if isinstance(source, DictConfig) else load_config(str(source), [])
        return load_detector(cfg, weights, device)
    if isinstance(source, DictConfig) or Path(source).is_file():
        found = "a config" if isinstance(source, DictConfig) else source
        raise ConfigError(
            f"found {found} alone, expected a run folder or an exported file "
            f"({', '.join(EXPORTED)}).\nFix: name a config and its weights, or the folder of a run"
        )
    return load_detector(*find_run(source), device)
