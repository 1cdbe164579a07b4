"""Exported detectors compared with eager mode, with detrex, and with exported transformers."""

from functools import partial

from torch import nn

from benchmarks.exported import RUNTIMES, exported_inference, same_as
from benchmarks.models import Config, build, detector_config, drawn_batch, inference
from benchmarks.opponents import detrex, transformers
from benchmarks.pair import Pair, Scale, Work
from benchmarks.pairs.detectors import detrex_inference, same_size
from benchmarks.pairs.distillation import mini_student, on_mini_batch

NAMES = {
    "onnxruntime": "ONNX Runtime",
    "openvino_f32": "OpenVINO f32",
    "openvino_bf16": "OpenVINO bf16",
    "openvino_int8": "OpenVINO int8",
}
DINO_R50 = partial(detector_config, "dino", 50)
DETECTORS = {
    "mini_student": ("mini student, 96 x 320", mini_student),
    "dino_r18": ("DINO R18, 402 x 1333", partial(detector_config, "dino", 18)),
    "dino_r50": ("DINO R50, 402 x 1333", DINO_R50),
}


def eager(config: Config, scale: Scale) -> nn.Module:
    return build(config(scale))


def exported_transformers(family: str, runtime: str, scale: Scale) -> Work:
    image = drawn_batch(scale, 1)[0]["image"]
    return transformers.exported_inference(transformers.detector(family, scale), image, runtime)


def _against_eager(detector: str, runtime: str) -> Pair:
    title, config = DETECTORS[detector]
    sized = partial(partial, on_mini_batch) if detector == "mini_student" else lambda build: build
    return Pair(
        against="self",
        name=f"{detector}_{runtime}",
        what=f"{title}, {NAMES[runtime]}",
        reference="eager mode",
        bound=">=",
        factor=1,
        ours=sized(partial(exported_inference, config, runtime)),
        theirs=[sized(partial(inference, config))],
        check=sized(partial(same_as, partial(eager, config), config, runtime)),
    )


def _against_detrex(runtime: str, factor: float) -> Pair:
    return Pair(
        against="detrex",
        name=f"dino_r50_{runtime}",
        what=f"DINO R50, 402 x 1333, {NAMES[runtime]}",
        reference="detrex in eager mode, same weights",
        bound=">=",
        factor=factor,
        ours=partial(exported_inference, DINO_R50, runtime),
        theirs=[partial(detrex_inference, "dino", 50)],
        check=partial(same_as, partial(detrex.detector, "dino", 50), DINO_R50, runtime),
    )


def _against_transformers(title: str, family: str, runtime: str) -> Pair:
    return Pair(
        against="transformers",
        name=f"{family}_r50_{runtime}",
        what=f"{title} R50, 402 x 1333, {NAMES[runtime]}",
        reference="Hugging Face transformers, exported likewise",
        bound=">=",
        factor=1,
        ours=partial(exported_inference, partial(detector_config, family, 50), runtime),
        theirs=[partial(exported_transformers, family, runtime)],
        check=partial(same_size, family),
    )


PAIRS = (
    *(_against_eager(detector, runtime) for detector in DETECTORS for runtime in RUNTIMES),
    _against_detrex("openvino_f32", factor=3),
    _against_detrex("openvino_bf16", factor=6),
    *(
        _against_transformers(title, family, runtime)
        for title, family in (("Deformable-DETR", "deformable_detr"), ("DAB-DETR", "dab_detr"))
        for runtime in ("onnxruntime", "openvino_f32", "openvino_bf16")
    ),
)
