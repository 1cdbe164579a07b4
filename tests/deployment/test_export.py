"""Exported files give the detections of their detector, and tell what they are."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from projects.clockdistill.deployment.export import store_weights_in_half, write_model
from projects.clockdistill.deployment.graph import DetectorGraph, best_detections
from projects.clockdistill.deployment.model_spec import ModelSpec
from projects.clockdistill.deployment.parity import (
    LIMITS,
    Limits,
    compare,
    measure,
)
from projects.clockdistill.deployment.quantize import quantize
from projects.clockdistill.deployment.runtimes import (
    ExportedDetector,
    GraphInfo,
    Runtime,
    open_model,
    pad,
)
from projects.clockdistill.deployment.samples import noise_images
from projects.clockdistill.engine.config_file import ConfigError
from projects.clockdistill.modeling.detectors.base import detections
from tests.modeling.tiny_detectors import FAMILIES, NUM_CLASSES, tiny_detector, tiny_dino

HEIGHT, WIDTH = 64, 96
SIZES = ((64, 96), (48, 80), (64, 33))
SPEC = ModelSpec(
    class_names=("a", "b", "c"),
    category_ids=(1, 2, 7),
    short_edge=64,
    max_size=96,
    input_format="RGB",
    pixel_mean=(123.675, 116.28, 103.53),
    pixel_std=(58.395, 57.12, 57.375),
)


def info(**changes) -> GraphInfo:
    values = dict(max_batch=1, raw=False, precision="fp32", max_detections=300)
    return GraphInfo(HEIGHT, WIDTH, **{**values, "compared_on": "noise", **changes})


def images(*sizes: tuple[int, int]) -> list[dict]:
    return [image for height, width in sizes for image in noise_images(1, height, width)]


def confident(detector: torch.nn.Module) -> torch.nn.Module:
    """Raises all scores: the comparison leaves out those below 0.1, where training starts."""
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if "class_embed" in name and name.endswith("bias"):
                parameter.add_(4)
    return detector


def agrees(
    detector: torch.nn.Module,
    runtime: Runtime,
    batch: list[dict],
    limits: Limits = LIMITS["fp32"],
) -> bool:
    """Whether the file gives the detections of the detector, also for several images at once."""
    exported = ExportedDetector(runtime)
    parity = measure(detector.eval(), exported, batch)
    assert parity.detections >= 10 * len(batch)
    together = [output["instances"] for output in exported(batch)]
    alone = [exported([image])[0]["instances"] for image in batch]
    return parity.holds(limits) and compare(zip(alone, together, strict=True)).holds(limits)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_predicts_on_a_padded_batch_what_the_detector_does(family: str) -> None:
    detector = tiny_detector(family).eval()
    batch = images(*SIZES)
    padded = torch.zeros(3, 3, HEIGHT, WIDTH)
    for slot, image in zip(padded, batch, strict=True):
        slot[:, : image["image"].shape[1], : image["image"].shape[2]] = image["image"]
    with torch.no_grad():
        found = DetectorGraph(detector)(padded, torch.tensor(SIZES))
        expected = [output["instances"] for output in detector(batch)]
    for boxes, scores, labels, instances in zip(*found, expected, strict=True):
        torch.testing.assert_close(scores, instances.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(boxes, instances.pred_boxes.tensor, atol=1e-3, rtol=0)
        assert torch.equal(labels, instances.pred_classes)


def test_selection_equals_the_detectors() -> None:
    logits, boxes = torch.randn(2, 7, NUM_CLASSES), torch.rand(2, 7, 4) + 0.01
    sizes = [(64, 96), (48, 80)]
    found = best_detections(logits, boxes, torch.tensor(sizes), max_detections=10)
    for image, expected in enumerate(detections(logits, boxes, sizes, sizes, 10)):
        kept = (found[0][image, :, 2:] > found[0][image, :, :2]).all(1)
        torch.testing.assert_close(found[0][image, kept], expected.pred_boxes.tensor)
        torch.testing.assert_close(found[1][image, kept], expected.scores)
        assert torch.equal(found[2][image, kept], expected.pred_classes)


# each family and each format once; ONNX is on the way to OpenVINO too
@pytest.mark.parametrize(
    ("family", "name", "changes"),
    [
        ("dino", "d.onnx", {}),
        ("dab_detr", "d.xml", {}),
        ("deformable_detr", "d.pt2", {"max_batch": None, "raw": True}),
    ],
)
def test_a_file_detects_what_the_detector_does(
    family: str, name: str, changes: dict, tmp_path: Path
) -> None:
    detector = confident(tiny_detector(family))
    neighbour = tmp_path / ("d.onnx" if name == "d.xml" else "d.bin")
    neighbour.write_text("another file")
    write_model(detector, SPEC, info(**changes), tmp_path / name)
    assert neighbour.read_text() == "another file"
    runtime = open_model(tmp_path / name)
    assert runtime.spec == SPEC and runtime.info == info(**changes)
    assert agrees(detector, runtime, images(*SIZES))
    if changes:
        logits, boxes = runtime.outputs(np.zeros((2, 3, HEIGHT, WIDTH)), np.array(SIZES[:2]))
        assert logits.shape == (2, 7, NUM_CLASSES) and boxes.shape == (2, 7, 4)
    if name == "d.onnx":
        assert_int8_is_close(detector, tmp_path / name)
        halve_weights(tmp_path / name)
        assert agrees(detector, open_model(tmp_path / name), images(*SIZES), LIMITS["fp16"])


def assert_int8_is_close(detector: torch.nn.Module, path: Path) -> None:
    """Quantises an ONNX file: backbone and encoder compute in int8, and detections stay close."""
    onnx = pytest.importorskip("onnx")
    batch = images(*[(HEIGHT, WIDTH)] * 4)
    model = quantize(onnx.load(path), [pad([image["image"]], HEIGHT, WIDTH) for image in batch])
    weights = [w.name for w in model.graph.initializer if w.name.endswith("weight_quantized")]
    assert any(name.startswith("detector.backbone") for name in weights)
    assert not any("transformer.decoder" in name or "class_embed" in name for name in weights)
    activations = [n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert len(activations) > 20
    target = path.with_stem("int8")
    onnx.save(model, target)
    exported = ExportedDetector(open_model(target))
    with torch.no_grad():  # the order of queries may change, scores by rank are close
        pairs = [(detector([x])[0]["instances"], exported([x])[0]["instances"]) for x in batch]
    for expected, found in pairs:
        assert 0 < (expected.scores - found.scores).abs().mean() < 0.05


def halve_weights(path: Path) -> None:
    """Stores the weights of an ONNX file in half; they take half the bytes then."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    weights = [weight for weight in model.graph.initializer if weight.name.startswith("detector.")]
    bytes_before = sum(len(weight.raw_data) for weight in weights)
    store_weights_in_half(model)
    assert sum(len(weight.raw_data) for weight in weights) == bytes_before / 2
    onnx.save(model, path)


def test_other_weights_are_not_the_same_detector() -> None:
    detector = confident(tiny_dino()).eval()
    other = copy.deepcopy(detector)
    with torch.no_grad():
        other.transformer.level_embeds.mul_(1.01)
        pairs = [
            (detector([image])[0]["instances"], other([image])[0]["instances"])
            for image in images(*SIZES)
        ]
    assert not compare(pairs).holds(LIMITS["fp32"])
    assert compare([(one, copy.deepcopy(one)) for one, _ in pairs]).holds(LIMITS["fp32"])


def test_equal_scores_in_another_order_are_the_same() -> None:
    with torch.no_grad():
        one = tiny_dino().eval()(images((64, 96)))[0]["instances"]
    one.scores = torch.full_like(one.scores, 0.5)
    assert compare([(one, one[torch.arange(len(one) - 1, -1, -1)])]).holds(LIMITS["fp32"])
    assert compare([(one, one[1:])]).unmatched == 1


def test_only_openvino_computes_in_bf16(tmp_path: Path) -> None:
    (tmp_path / "d.onnx").touch()
    with pytest.raises(ConfigError, match="bf16 needs OpenVINO"):
        open_model(tmp_path / "d.onnx", "bf16")
    with pytest.raises(ConfigError, match="fp8 is unknown"):
        open_model(tmp_path / "d.onnx", "fp8")


def test_a_missing_package_is_named_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="pip install -e '.\\[export\\]'"):
        open_model(tmp_path / "d.onnx")
