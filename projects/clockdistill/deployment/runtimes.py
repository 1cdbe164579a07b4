"""Exported files opened in the library that runs them: ONNX Runtime, OpenVINO or torch."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances

from projects.clockdistill.deployment.graph import DETECTIONS, RAW, best_detections
from projects.clockdistill.deployment.imports import import_extra
from projects.clockdistill.deployment.model_spec import KEY, ModelSpec
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.errors import UserError

GRAPH_KEY = "graph"  # of the JSON text of `GraphInfo` in a file's metadata
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}  # OpenVINO's names of what it computes in
_OPENVINO_KEY = "clockdistill"  # holds our keys in OpenVINO's metadata

Run = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]


@dataclass(frozen=True)
class GraphInfo:
    """Inputs and outputs of an exported file, and how it was compared with its checkpoint.

    Attributes:
        height: of the images, padded, in pixels.
        width: of the images, padded, in pixels.
        max_batch: images in a batch; None for any number.
        raw: whether the outputs are `pred_logits` and `pred_boxes` instead of detections.
        max_detections: per image.
        precision: fp32; fp16 (of the weights) or int8 (of backbone and encoder).
        compared_on: the images of the comparison.
    """

    height: int
    width: int
    max_batch: int | None
    raw: bool
    max_detections: int
    precision: str
    compared_on: str

    @classmethod
    def from_json(cls, text: str) -> "GraphInfo":
        """Reads the JSON object of a file's metadata; keys of later versions are ignored.

        Raises:
            UserError: if a key is missing.
        """
        values, names = json.loads(text), [field.name for field in dataclasses.fields(cls)]
        missing = set(names) - set(values)
        if missing:
            raise UserError(f"{GRAPH_KEY} in the file's metadata lacks {', '.join(missing)}")
        return cls(**{name: values[name] for name in names})

    @property
    def outputs(self) -> tuple[str, ...]:
        """Returns the names of the file's outputs."""
        return RAW if self.raw else DETECTIONS


class Runtime:
    """An exported file that is ready to run.

    Attributes:
        spec: the detector.
        info: the graph.
        height: of the images, padded, in pixels.
        width: of the images, padded, in pixels.
        max_batch: images that the file takes at once; None for any number.

    Args:
        metadata: JSON texts of `ModelSpec` and `GraphInfo` by `KEY` and `GRAPH_KEY`.
        run: takes images and sizes, returns the graph's outputs.
    """

    def __init__(self, metadata: dict[str, str], run: Run) -> None:
        self.spec = ModelSpec.from_json(metadata[KEY])
        self.info = GraphInfo.from_json(metadata[GRAPH_KEY])
        self.height, self.width = self.info.height, self.info.width
        self.max_batch = self.info.max_batch
        self._run = run

    def __call__(
        self, images: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Detects objects; a batch above `max_batch` runs in parts.

        Args:
            images: (B, 3, height, width) in 0 to 255, of any number type, in RGB order,
                padded to the right and below.
            sizes: (B, 2), (height, width) of each image without padding.

        Returns:
            Boxes (B, N, 4) float32, xyxy in pixels of the unpadded image and clipped to it; scores
            (B, N) float32, falling; labels (B, N) int64. Boxes may be empty.

        Raises:
            UserError: if the images have another size than the file.
        """
        outputs = self.outputs(images, sizes)
        if not self.info.raw:
            return tuple(outputs)
        logits, boxes = map(torch.from_numpy, outputs)
        found = best_detections(logits, boxes, torch.as_tensor(sizes), self.info.max_detections)
        return tuple(x.numpy() for x in found)

    def outputs(self, images: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
        """Returns the outputs of the graph, in the order of `info.outputs`."""
        expected = (len(images), 3, self.height, self.width)
        if images.shape != expected:
            raise UserError(f"images of shape {images.shape}, but the file takes {expected}")
        images = np.ascontiguousarray(images, dtype=np.float32)
        sizes = np.ascontiguousarray(sizes, dtype=np.int64)
        step = self.max_batch or max(len(images), 1)
        parts = [
            self._run(images[start : start + step], sizes[start : start + step])
            for start in range(0, len(images), step)
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


class ExportedDetector:
    """An exported file that is called as a detector in eval mode is.

    Args:
        runtime: the opened file.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Returns detections; arguments and result are those of `Detector.forward`.

        Every image must fit into the file's size.
        """
        images, sizes = pad(
            [entry["image"] for entry in batched_inputs], self.runtime.height, self.runtime.width
        )
        results = []
        for entry, size, boxes, scores, labels in zip(
            batched_inputs, sizes.tolist(), *self.runtime(images, sizes), strict=True
        ):
            instances = Instances(
                tuple(size),
                pred_boxes=Boxes(torch.from_numpy(boxes)),
                scores=torch.from_numpy(scores),
                pred_classes=torch.from_numpy(labels),
            )
            output = entry.get("height", size[0]), entry.get("width", size[1])
            results.append({"instances": detector_postprocess(instances, *output)})
        return results


def pad(images: list[torch.Tensor], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (3, H, W) as one batch that a file takes, and their own sizes.

    Raises:
        UserError: if an image is larger than the given size.
    """
    batch = np.zeros((len(images), 3, height, width), dtype=np.float32)
    sizes = np.array([image.shape[1:] for image in images])
    if (sizes > (height, width)).any():
        raise UserError(f"images of {sizes.tolist()} do not all fit into {height} x {width}")
    for padded, image, (h, w) in zip(batch, images, sizes, strict=True):
        padded[:, :h, :w] = image
    return batch, sizes


def open_model(path: str | Path, precision: str = "fp32") -> Runtime:
    """Opens an exported file for the CPU.

    Args:
        path: .onnx, .xml (OpenVINO, with its .bin next to it) or .pt2.
        precision: what OpenVINO computes in, "fp32" or "bf16"; the others compute in fp32.

    Raises:
        ConfigError: if the file is none of these, is missing or was not exported by this project,
            its library is not installed or does not compute in this precision.
    """
    path = Path(path)
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision} is unknown. Fix: one of {list(PRECISIONS)}")
    if precision != "fp32" and path.suffix != ".xml":
        raise ConfigError(
            f"precision={precision} needs OpenVINO; {path} computes in fp32.\n"
            "Fix: export with --format openvino, or leave precision out"
        )
    openers = {
        ".onnx": _open_onnx,
        ".xml": functools.partial(_open_openvino, precision=precision),
        ".pt2": _open_exported_program,
    }
    if path.suffix not in openers:
        raise ConfigError(f"{path} is not an exported model. Fix: name a file of {list(openers)}")
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
        raise ConfigError(
            f"{path} is half of a model: {path.with_suffix('.bin').name} must lie next to it"
        )
    metadata, run = openers[path.suffix](path)
    if not (metadata.get(KEY) and metadata.get(GRAPH_KEY)):
        raise ConfigError(
            f"{path} has no {KEY} in its metadata, so its classes and sizes are unknown.\n"
            "Fix: export it with tools/export.py"
        )
    return Runtime(metadata, run)


def metadata(spec: ModelSpec, info: GraphInfo) -> dict[str, str]:
    """Returns what every exported file holds besides the graph."""
    return {KEY: spec.to_json(), GRAPH_KEY: json.dumps(dataclasses.asdict(info))}


def set_openvino_metadata(model, texts: dict[str, str]) -> None:
    """Writes the metadata into an `openvino.Model`."""
    for key, text in texts.items():
        model.set_rt_info(text, [_OPENVINO_KEY, key])


def _open_onnx(path: Path) -> tuple[dict[str, str], Run]:
    onnxruntime = import_extra("onnxruntime")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base
        raise _unreadable(path, error) from error

    def run(images: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        return session.run(None, {"images": images, "sizes": sizes})

    return session.get_modelmeta().custom_metadata_map, run


def _open_openvino(path: Path, precision: str) -> tuple[dict[str, str], Run]:
    openvino = import_extra("openvino")
    core = openvino.Core()
    try:
        model = core.read_model(path)
        compiled = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": PRECISIONS[precision]}
        )
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    texts = {
        key: model.get_rt_info([_OPENVINO_KEY, key]).astype(str)
        for key in (KEY, GRAPH_KEY)
        if model.has_rt_info([_OPENVINO_KEY, key])
    }

    def run(images: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        return list(compiled({"images": images, "sizes": sizes}).values())

    return texts, run


def _open_exported_program(path: Path) -> tuple[dict[str, str], Run]:
    texts = {KEY: "", GRAPH_KEY: ""}  # filled by torch
    try:
        graph = torch.export.load(path, extra_files=texts).module()
    except Exception as error:  # a damaged archive raises many types
        raise _unreadable(path, error) from error

    def run(images: np.ndarray, sizes: np.ndarray) -> Sequence[np.ndarray]:
        with torch.no_grad():
            outputs = graph(torch.from_numpy(images), torch.from_numpy(sizes))
        return [output.numpy() for output in outputs]

    return texts, run


def _unreadable(path: Path, error: Exception) -> ConfigError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    # OpenVINO's first line names its own source file
    cause = next((line for line in lines if not line.startswith("Exception from")), "")
    return ConfigError(f"{path} cannot be opened ({type(error).__name__}: {cause.strip()})")
