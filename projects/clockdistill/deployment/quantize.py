"""int8 for backbone, neck and encoder of an ONNX model; decoder and heads stay in float32."""

import ast
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from projects.clockdistill.deployment.imports import import_extra
from projects.clockdistill.errors import UserError

_PARTS = ("detector.backbone", "detector.neck", "detector.transformer.encoder")
# What holds nearly all multiply-adds; the sampling of deformable attention has no int8 kernel.
_OPERATORS = ("Conv", "MatMul", "Gemm", "MaxPool")
_SCOPES = "pkg.torch.onnx.name_scopes"  # torch's exporter names each node's modules


def quantize(model, calibration: Sequence[tuple[np.ndarray, np.ndarray]]):
    """Returns an ONNX model that computes in int8, with scales from calibration images.

    Weights are scaled per output channel, activations per tensor by their range. OpenVINO reads the
    result too.

    Args:
        model: an `onnx.ModelProto` from `to_onnx`.
        calibration: images and sizes, as the model takes them.
    """
    quantization = import_extra("onnxruntime.quantization")
    onnx = import_extra("onnx")
    inputs = iter([{"images": images, "sizes": sizes} for images, sizes in calibration])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(inputs, None)

    nodes = [node.name for node in model.graph.node if _is_in_parts(node)]
    if not nodes:  # for ONNX Runtime an empty list means all of them
        raise UserError("int8: the graph names none of its backbone's, neck's or encoder's nodes")
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preprocessing that torch's exporter has done
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "int8.onnx"
            quantization.quantize_static(
                model,
                target,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=_OPERATORS,
                nodes_to_quantize=nodes,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            return onnx.load(target)
    finally:
        root.setLevel(level)


def _is_in_parts(node) -> bool:
    """Returns whether a node belongs to a module that is quantised."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            return any(scope.startswith(_PARTS) for scope in ast.literal_eval(entry.value))
    return False
