"""Pictures in, detections out, from a run folder, a config and weights, or an exported file."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from PIL import Image
from torch import nn

from projects.clockdistill.deployment.images import read_image
from projects.clockdistill.deployment.loading import choose_device, find_run, load_detector
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.engine.config_file import ConfigError, load_config

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
        if not isinstance(source, DictConfig) and Path(source).suffix in EXPORTED:
            self._model = _ExportedModel(source)
        else:
            self._model = _TorchModel(*_load(source, weights, choose_device(device)))
        self.spec: ModelSpec = self._model.spec
        self.threshold = self.spec.threshold if threshold is None else threshold
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold {threshold} is not a score. Fix: use 0 to 1")

    def __call__(self, images: Picture | Sequence[Picture]) -> Instances | list[Instances]:
        """Detects the objects of one picture, or of a batch of pictures.

        Args:
            images: each a path, a Pillow image or an array in BGR order, as `read_image` takes it.

        Returns:
            Per picture, on the CPU and by falling score: `pred_boxes` (absolute xyxy in pixels of
            the upright picture), `scores` in [0, 1] and `pred_classes`.
        """
        one = isinstance(images, np.ndarray | Image.Image | str | Path)
        batch = [read_image(image) for image in ([images] if one else images)]
        found = self._model(batch) if batch else []
        found = [instances[instances.scores >= self.threshold] for instances in found]
        return found[0] if one else found


class _TorchModel:
    """A detector of torch.

    Args:
        detector: in eval mode.
        spec: of the detector.
    """

    def __init__(self, detector: nn.Module, spec: ModelSpec) -> None:
        self.spec = spec
        self._detector = detector

    @torch.no_grad()
    def __call__(self, images: list[np.ndarray]) -> list[Instances]:
        """Returns all detections in RGB images, in pixels of each."""
        inputs = []
        for image in images:
            height, width = image.shape[:2]
            pixels = _resized(image, self.spec.input_size(height, width), self.spec.input_format)
            inputs.append({"image": torch.from_numpy(pixels), "height": height, "width": width})
        return [output["instances"].to("cpu") for output in self._detector(inputs)]


class _ExportedModel:
    """A file that `tools/export.py` wrote.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        # only here: users of torch need no other runtime
        from projects.clockdistill.deployment.runtimes import open_model

        self._runtime = open_model(path)
        self.spec = self._runtime.spec
        size = self._runtime.height, self._runtime.width
        logger.info("%s: images of at most %d x %d; larger ones are made to fit", path, *size)

    def __call__(self, images: list[np.ndarray]) -> list[Instances]:
        """Returns all detections in RGB images, in pixels of each."""
        runtime = self._runtime
        sizes = [self._fitted(*image.shape[:2]) for image in images]
        batch = np.zeros((len(images), 3, runtime.height, runtime.width), np.uint8)
        for slot, image, (height, width) in zip(batch, images, sizes, strict=True):
            slot[:, :height, :width] = _resized(image, (height, width), self.spec.input_format)
        found = runtime(batch, np.array(sizes, np.int64))
        results = []
        for image, size, boxes, scores, labels in zip(images, sizes, *found, strict=True):
            instances = Instances(
                size,
                pred_boxes=Boxes(torch.from_numpy(boxes)),
                scores=torch.from_numpy(scores),
                pred_classes=torch.from_numpy(labels),
            )
            results.append(detector_postprocess(instances, *image.shape[:2]))
        return results

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width after resizing, at most those of the runtime."""
        height, width = self.spec.input_size(height, width)
        scale = min(1.0, self._runtime.height / height, self._runtime.width / width)
        return max(1, round(height * scale)), max(1, round(width * scale))


def _resized(image: np.ndarray, size: tuple[int, int], input_format: str) -> np.ndarray:
    """Returns an RGB image (H, W, 3) as `ResizeShortestEdge` makes it, (3, height, width)."""
    if input_format == "BGR":
        image = image[:, :, ::-1]
    resizing = T.ResizeTransform(*image.shape[:2], *size, Image.BILINEAR)
    return np.ascontiguousarray(resizing.apply_image(image).transpose(2, 0, 1))


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
