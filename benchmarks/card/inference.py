"""Images a second of the detectors."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.card.measure import PRECISIONS, Captured, Work, precision, seconds
from benchmarks.card.section import Run
from benchmarks.models import build, detector_config, drawn_batch
from benchmarks.pair import FULL, QUICK, Scale
from projects.clockdistill.engine.half_weights import store_weights

# family, depth of the ResNet, layers of encoder and of decoder
Kind = tuple[str, int, int]
TEACHER, STUDENT = ("dino", 50, 6), ("dino", 18, 6)
PAPER = {TEACHER: 19.8, STUDENT: 27.5, ("dino", 18, 3): 44.8}
TITLES = {"dino": "DINO", "deformable_detr": "Deformable-DETR", "dab_detr": "DAB-DETR"}
LARGE = replace(FULL, height=800)


def dino(run: Run) -> None:
    """Measures DINO at the paper's image size.

    "paper" is CLoCKDistill's Table 6: DINO on KITTI (402 x 1333) on an A100, in frames a second;
    it names neither batch nor precision.
    """
    for kind in [STUDENT] if run.quick else PAPER:
        measure(run, kind, [QUICK if run.quick else FULL], batches=(1, 8))
    run.notes.append("eager: images on the host to detections; graph: from normalised images on")
    run.notes.append("paper: Table 6, an A100; batch and precision are not given")
    speeds = {(row["detector"], row["batch"], row["mode"]): row["bfloat16"] for row in run.rows}
    for mode, limit in (("eager", 100), ("graph", 200)):
        speed = speeds.get((title(TEACHER), 1, mode))
        if speed is not None:
            run.target(f"DINO R50, bfloat16, batch 1, {mode}", speed, ">=", limit)


def others(run: Run) -> None:
    """Measures the other detectors, and all of them at 800 x 1333."""
    families = ("deformable_detr", "dab_detr")
    if run.quick:
        for family in families:
            measure(run, (family, 18, 6), [QUICK], batches=(1,))
        return
    for family in families:
        for depth in (50, 18):
            measure(run, (family, depth, 6), [FULL, LARGE], batches=(1, 8))
    for depth in (50, 18):
        measure(run, ("dino", depth, 6), [LARGE], batches=(1, 8))


def compiled(run: Run) -> None:
    """Measures DINO R50 through `torch.compile`; compiling cannot be interrupted."""
    kind, scale = (STUDENT, QUICK) if run.quick else (TEACHER, FULL)
    if not run.has_time_for("compiling", 0 if run.quick else 45):
        return
    detector = in_precisions(built(kind, scale, run.device))["bfloat16"]
    inputs = preprocessed(detector, drawn_batch(scale, 1))
    # "eager" traces the same graphs and needs no compiler
    options = {"backend": "eager"} if run.quick else {"mode": "reduce-overhead"}
    predict = torch.compile(detector.predictions, **options)
    start = time.monotonic()
    predicting(predict, inputs, "bfloat16", run.device)()
    first = time.monotonic() - start
    speed = 1 / seconds(predicting(predict, inputs, "bfloat16", run.device), run)
    run.add(detector=title(kind), batch=1, mode="compiled", bfloat16=speed, first_call_s=first)
    run.target("DINO R50, bfloat16, batch 1, compiled", speed, ">=", 200)


def measure(run: Run, kind: Kind, scales: Sequence[Scale], batches: Sequence[int]) -> None:
    """Adds the rows of one detector, which is built once."""
    detectors = None
    for scale in scales:
        for batch in batches:
            what = f"{title(kind)}, {scale.height} x {scale.width}, batch {batch}"
            if not run.has_time_for(what, 3):
                continue
            if detectors is None:
                detectors = in_precisions(built(kind, scale, run.device))
            measure_batch(run, detectors, kind, scale, batch)


def in_precisions(detector: nn.Module) -> dict[str, nn.Module]:
    """Returns the detector as each precision runs it: for bfloat16, with weights stored in it."""
    half = store_weights(copy.deepcopy(detector), torch.bfloat16)
    return {name: half if name == "bfloat16" else detector for name in PRECISIONS}


def measure_batch(
    run: Run, detectors: dict[str, nn.Module], kind: Kind, scale: Scale, batch: int
) -> None:
    """Adds one row for each mode; a mode that fails is a failure of the section."""
    on_host = drawn_batch(scale, batch)
    comparable = batch == 1 and scale == FULL
    for mode in ("eager", "graph"):
        row = run.add(
            detector=title(kind),
            image=f"{scale.height} x {scale.width}",
            batch=batch,
            mode=mode,
            **dict.fromkeys(PRECISIONS),
            paper=PAPER.get(kind) if comparable else None,
        )
        if mode == "graph" and not run.on_cuda:
            row["mode"] = "graph (CUDA only)"
            continue
        for name in PRECISIONS:
            if not run.has_time_for(f"{title(kind)}, batch {batch}, {mode}, {name}", 1):
                break
            if mode == "eager":
                row[name] = batch / seconds(eager(detectors[name], on_host, name, run.device), run)
                continue
            try:
                call = captured(detectors[name], on_host, name, run.device)
            except RuntimeError as error:
                torch.cuda.set_stream(torch.cuda.default_stream())  # a capture leaves its own
                message = str(error).partition("\n")[0]
                run.failures.append(f"{title(kind)} cannot be captured as a graph: {message}")
                break
            row[name] = batch / seconds(call.graph.replay, run)


def eager(
    detector: nn.Module, batched_inputs: list[dict[str, Any]], name: str, device: torch.device
) -> Work:
    """Returns a user's call: images on the host to detections."""

    @torch.inference_mode()
    def call() -> Any:
        with precision(name, device):
            return detector(batched_inputs)

    return call


def predicting(
    predict: Callable[[Tensor, Tensor], Any],
    inputs: tuple[Tensor, Tensor],
    name: str,
    device: torch.device,
) -> Work:
    """Returns the call of the tensor part: normalised images to logits and boxes."""

    @torch.no_grad()
    def call() -> Any:
        with precision(name, device):
            return predict(*inputs)

    return call


def captured(
    detector: nn.Module, batched_inputs: list[dict[str, Any]], name: str, device: torch.device
) -> Captured:
    """Returns the graph of a detector's predictions."""
    inputs = preprocessed(detector, batched_inputs)
    return Captured(predicting(detector.predictions, inputs, name, device))


@torch.no_grad()
def preprocessed(
    detector: nn.Module, batched_inputs: list[dict[str, Any]]
) -> tuple[Tensor, Tensor]:
    """Returns normalised images and their mask, on the detector's device."""
    images, mask = detector.preprocess_images(batched_inputs)
    return images.tensor, mask


def built(kind: Kind, scale: Scale, device: torch.device) -> nn.Module:
    """Returns a detector with random weights, in eval mode, on the device."""
    family, depth, layers = kind
    config = detector_config(family, depth, scale)
    if not scale.small_models:
        config.transformer.encoder.num_layers = layers
        config.transformer.decoder.num_layers = layers
    return build(config).eval().to(device)


def title(kind: Kind) -> str:
    """Returns a detector's name with its backbone and its layers."""
    family, depth, layers = kind
    return f"{TITLES[family]} R{depth} {layers}/{layers}"
