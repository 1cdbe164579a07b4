"""Exported detectors as work to measure: ours, and modules of others."""

import functools
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from benchmarks.agreement import same_detections
from benchmarks.models import Config, build, drawn_batch, inference_of
from benchmarks.pair import Scale, Work
from projects.clockdistill.deployment.export import to_onnx, write_model
from projects.clockdistill.deployment.imports import import_extra
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.deployment.runtimes import (
    PRECISIONS,
    ExportedDetector,
    GraphInfo,
    open_model,
)

# suffix of the file, precision that it is exported in, precision that OpenVINO computes in
RUNTIMES = {
    "onnxruntime": (".onnx", "fp32", "fp32"),
    "openvino_f32": (".xml", "fp32", "fp32"),
    "openvino_bf16": (".xml", "fp32", "bf16"),
    "openvino_int8": (".xml", "int8", "fp32"),
}


@functools.lru_cache(maxsize=1)  # the same file is checked first and then measured
def exported(config: Config, runtime: str, scale: Scale) -> ExportedDetector:
    """Exports one of our detectors as `tools/export.py` does, and opens the file.

    Args:
        config: of the detector; its weights are random.
        runtime: a key of `RUNTIMES`.
        scale: of the images.
    """
    suffix, precision, computed = RUNTIMES[runtime]
    detector = build(config(scale))
    classes = range(detector.num_classes)
    spec = ModelSpec(
        class_names=tuple(f"class {number}" for number in classes),
        category_ids=tuple(classes),
        short_edge=None,
        max_size=None,
        input_format="RGB",
        pixel_mean=tuple(detector.pixel_mean.flatten().tolist()),
        pixel_std=tuple(detector.pixel_std.flatten().tolist()),
    )
    info = GraphInfo(
        height=scale.height,
        width=scale.width,
        max_batch=1,
        raw=False,
        max_detections=detector.select_box_nums_for_evaluation,
        precision=precision,
        compared_on="nothing",
    )
    image = drawn_batch(scale, 1)[0]["image"][None].float().numpy()
    calibration = [(image, np.array([[scale.height, scale.width]]))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"detector{suffix}"
        write_model(detector, spec, info, path, calibration)
        return ExportedDetector(open_model(path, computed))


def exported_inference(config: Config, runtime: str, scale: Scale) -> Work:
    """Returns the inference of one of our exported detectors: image to detections."""
    return partial(exported(config, runtime, scale), drawn_batch(scale, 1))


def same_as(
    reference: Callable[[Scale], nn.Module], config: Config, runtime: str, scale: Scale
) -> dict[str, float]:
    """Compares the detections of an exported detector with those of its weights in eager mode.

    Only float32 has to agree. What bfloat16 and int8 do to detections depends on the weights, and
    random ones tell nothing: docs/deploy.md gives the AP of trained ones.
    """
    batch = drawn_batch(scale, 1)
    found: Instances = exported(config, runtime, scale)(batch)[0]["instances"]
    expected = inference_of(reference(scale), batch)()[0]["instances"]
    if runtime in ("openvino_bf16", "openvino_int8"):
        return {"detections": len(found)}
    return same_detections(found, expected)


def module_inference(module: nn.Module, runtime: str, x: Tensor) -> Work:
    """Returns the inference of a module of others, exported as ours are.

    Args:
        module: in eval mode; takes a tensor and returns tensors.
        runtime: a key of `RUNTIMES`, without int8.
        x: its input.
    """
    with torch.no_grad():
        program = torch.export.export(module, (x,))
    model = to_onnx(program, [node.name for node in program.graph.output_node().args[0]])
    value = x.numpy()
    suffix, _, computed = RUNTIMES[runtime]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.onnx"
        import_extra("onnx").save(model, path)
        if suffix == ".xml":
            hint = {"INFERENCE_PRECISION_HINT": PRECISIONS[computed]}
            compiled = import_extra("openvino").Core().compile_model(path, "CPU", hint)
            return partial(compiled, [value])
        onnxruntime = import_extra("onnxruntime")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {model.graph.input[0].name: value})
