"""A detector as a file: ONNX, OpenVINO or torch's exported program."""

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from projects.clockdistill.deployment.graph import trace
from projects.clockdistill.deployment.imports import import_extra
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.deployment.quantize import quantize
from projects.clockdistill.deployment.runtimes import (
    GraphInfo,
    metadata,
    set_openvino_metadata,
)
from projects.clockdistill.modeling.detectors.base import Detector

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "exported-program": ".pt2"}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "exported-program": ()}
PACKAGES["openvino"] = (*PACKAGES["onnx"], "openvino")  # converts the ONNX graph
# The first with GridSample as torch has it; from 18 on, all other operators of the detectors.
OPSET = 20

Batch = tuple[np.ndarray, np.ndarray]  # images and sizes, as a file takes them


def write_model(
    detector: Detector,
    spec: ModelSpec,
    info: GraphInfo,
    path: Path,
    calibration: Sequence[Batch] = (),
) -> None:
    """Exports a detector to a file; the arguments are those of `convert` and `save`."""
    save(convert(detector, info, path.suffix, calibration), metadata(spec, info), path)


def convert(
    detector: Detector, info: GraphInfo, suffix: str, calibration: Sequence[Batch] = ()
) -> Any:
    """Exports a detector.

    Args:
        detector: with its weights.
        info: what to export.
        suffix: of the file, one of `SUFFIXES`; chooses the format.
        calibration: training images for int8.

    Returns:
        An `ExportedProgram`, `onnx.ModelProto` or `openvino.Model`.

    Raises:
        ConfigError: if a package of the extra `export` is missing.
    """
    program = trace(
        detector.cpu().float(),
        info.height,
        info.width,
        raw=info.raw,
        dynamic_batch=info.max_batch is None,
    )
    if suffix == ".pt2":
        return program
    model = to_onnx(program, info.outputs)
    if info.precision == "int8":
        model = quantize(model, calibration)
    if info.precision == "fp16":
        store_weights_in_half(model)
    return _to_openvino(model) if suffix == ".xml" else model


def save(model: Any, texts: dict[str, str], path: Path) -> None:
    """Writes what `convert` returned.

    Args:
        model: of the format that the path's suffix names.
        texts: the metadata.
        path: the file; the weights of an OpenVINO model go to a .bin file next to it.
    """
    if path.suffix == ".pt2":
        torch.export.save(model, path, extra_files=texts)
    elif path.suffix == ".xml":
        set_openvino_metadata(model, texts)
        import_extra("openvino").save_model(model, path, compress_to_fp16=False)
    else:
        onnx = import_extra("onnx")
        onnx.helper.set_model_props(model, texts)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def to_onnx(program: ExportedProgram, outputs: Sequence[str]):
    """Returns the graph as an `onnx.ModelProto`."""
    import_extra("onnx")
    import_extra("onnxscript")
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it tells of each constant it keeps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            output_names=list(outputs),
            verbose=False,
        )
    return converted.model_proto


def store_weights_in_half(model) -> None:
    """Stores an ONNX model's weights in float16; runtimes restore them when they load the file.

    Computing stays in float32, so that no operator needs a float16 kernel, and so do constants:
    reference points in float16 would be off by a twentieth of a cell.
    """
    onnx = import_extra("onnx")
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or not weight.name.startswith("detector."):
            continue
        name, half = weight.name, f"{weight.name}_half"
        values = onnx.numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _to_openvino(model: Any) -> Any:
    openvino = import_extra("openvino")
    # From ONNX rather than from torch's program: names and fixed sizes stay, and loading is faster.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        import_extra("onnx").save(model, path)
        return openvino.convert_model(path)
