"""Our detectors equal detrex's: state-dict keys and shapes, activations, losses, gradients."""

import importlib.util

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from torch import nn

from tests.modeling.detectors import parity

MEMORY, BOX_PX, LOSS, GRADIENT = 2e-4, 2e-2, 1e-4, 1e-3  # tolerances of ../shared/parity/README.md
# Dense attention has parameters without effect, e.g. the biases of its keys, which a softmax takes
# out again: their gradient is rounding. The goldens' others are above 5e-4.
ZERO = 1e-6


@pytest.fixture(scope="module", params=parity.FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def run(family) -> dict[str, np.ndarray | float]:
    """One evaluation of each image and one training step of both, by the golden's keys."""
    detector = parity.small_detector(family)
    seen, found = {}, {}
    encoder, decoder = detector.transformer.encoder, detector.transformer.decoder
    encoder.register_forward_hook(lambda _, __, memory: seen.update(memory=memory.detach()))
    decoder.register_forward_hook(lambda _, __, states: seen.update(hs=states[0].detach()))
    if family == "dab_detr":
        as_detrex_reads_padding(detector)
        encoder.register_forward_hook(
            lambda _, __, memory: seen.update(memory=memory.detach().transpose(0, 1))
        )
    inputs = parity.inputs()

    detector.eval()
    for number, entry in enumerate(inputs):
        with torch.no_grad():
            instances = detector([{"image": entry["image"]}])[0]["instances"]
        found[f"eval{number}.memory"] = seen["memory"][0, :: parity.TOKEN_STEP]
        found[f"eval{number}.hs"] = seen["hs"][:, 0]
        found[f"eval{number}.scores"] = instances.scores
        found[f"eval{number}.boxes"] = instances.pred_boxes.tensor
        found[f"eval{number}.classes"] = instances.pred_classes

    detector.train()
    losses = detector(inputs)
    sum(losses.values()).backward()
    found["train.memory"] = seen["memory"][:, :: parity.TOKEN_STEP]
    found["train.hs"] = seen["hs"]
    found |= {f"train.loss.{name}": loss.detach() for name, loss in losses.items()}
    for name, parameter in detector.named_parameters():
        if parameter.grad is not None:
            found[f"train.gradnorm.{name}"] = parameter.grad.norm()
    return {key: parity.thinned(family, key, value.numpy()) for key, value in found.items()}


def as_detrex_reads_padding(detector: nn.Module) -> None:
    """Takes the padding mask away from the decoder's cross-attention.

    detrex's DAB-DETR never passes one, so that its queries attend to padded tokens: the golden of
    the padded batch can only be met by doing the same. Ours hides them (`test_padding.py`).
    """

    def without_mask(_, args, kwargs):
        assert kwargs["key_padding_mask"].dtype == torch.bool
        return args, kwargs | {"key_padding_mask": None}

    detector.transformer.decoder.register_forward_pre_hook(without_mask, with_kwargs=True)


@pytest.mark.parametrize("depth", parity.DEPTHS)
def test_state_dict_and_parameters_are_the_contracts(family, depth):
    expected = parity.contracts(family)[str(depth)]
    with torch.device("meta"):
        detector = instantiate(parity.config(family, depth=depth))
    shapes = {key: list(value.shape) for key, value in detector.state_dict().items()}
    assert shapes == expected["state_dict"]
    assert sum(p.numel() for p in detector.parameters()) == expected["parameters"]


def test_every_key_of_the_golden_is_there_and_no_other(run, family):
    assert run.keys() == parity.golden(family).keys()


@pytest.mark.parametrize("mode", ["eval0", "eval1", "train"])
def test_activations(run, family, mode):
    golden = parity.golden(family)
    for key in (f"{mode}.memory", f"{mode}.hs"):
        np.testing.assert_allclose(run[key], golden[key], rtol=0, atol=MEMORY, err_msg=key)


@pytest.mark.parametrize("mode", ["eval0", "eval1"])
def test_detections(run, family, mode):
    golden = parity.golden(family)
    np.testing.assert_array_equal(run[f"{mode}.classes"], golden[f"{mode}.classes"])
    np.testing.assert_allclose(run[f"{mode}.scores"], golden[f"{mode}.scores"], rtol=0, atol=MEMORY)
    np.testing.assert_allclose(run[f"{mode}.boxes"], golden[f"{mode}.boxes"], rtol=0, atol=BOX_PX)


def test_losses(run, family):
    golden = parity.golden(family)
    expected = {k: v for k, v in golden.items() if k.startswith("train.loss.")}
    assert expected
    for key, value in expected.items():
        np.testing.assert_allclose(run[key], value, rtol=LOSS, err_msg=key)


def test_gradient_norms(run, family):
    golden = parity.golden(family)
    expected = {k: v for k, v in golden.items() if k.startswith("train.gradnorm.")}
    assert expected
    for key, value in expected.items():
        if value < ZERO:
            assert run[key] < ZERO, key
            continue
        # below a norm of 1e-3 rounding weighs more
        tolerance = GRADIENT if value >= 1e-3 else 2 * GRADIENT
        np.testing.assert_allclose(run[key], value, rtol=tolerance, err_msg=key)


if parity.SHARED.is_dir():

    def test_the_derived_set_is_the_shared_one(family):
        derived, shared = parity.golden(family), parity.shared_golden(family)
        assert derived.keys() == shared.keys()
        for key in shared:
            np.testing.assert_array_equal(derived[key], shared[key], err_msg=key)
        assert parity.contracts(family) == parity.shared_contracts(family)

    def test_weights_are_the_shared_ones(family):
        shared = shared_fill()
        for name, value in parity.small_detector(family).state_dict().items():
            expected = shared.values(name, tuple(value.shape))
            np.testing.assert_array_equal(
                parity.values(name, tuple(value.shape)), expected, err_msg=name
            )

    def test_inputs_are_the_shared_ones():
        shared = shared_fill()
        for shape in parity.IMAGES:
            assert torch.equal(parity.image(*shape), shared.image(*shape))
        ours, theirs = parity.objects(4, 128, 320, 100), shared.boxes(4, 128, 320, 7, 100)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def shared_fill():
        spec = importlib.util.spec_from_file_location("shared_fill", parity.SHARED / "fill.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
