"""What holds for every detector: losses, gradients, precision, appended queries, refusals."""

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from projects.clockdistill.modeling.detectors.layers.attention import QueryBlocks
from tests.modeling.tiny_detectors import (
    FAMILIES,
    QUERIES,
    VARIANTS,
    batch,
    tiny_config,
    tiny_detector,
)

FURTHER_LOSSES = {"dino": ("_enc", "_dn", "_dn_0"), "deformable_detr_two_stage": ("_enc",)}


@pytest.fixture(params=[*FAMILIES, *VARIANTS])
def name(request) -> str:
    return request.param


@pytest.fixture
def detector(name) -> nn.Module:
    return tiny_detector(name).train()


@pytest.mark.parametrize("counts", [(2, 1), (3, 0), (0, 0)])
def test_losses_have_one_set_of_names_and_every_parameter_a_finite_gradient(detector, name, counts):
    losses = detector(batch(counts))
    suffixes = ("", "_0", *FURTHER_LOSSES.get(name, ()))
    assert losses.keys() == {f"loss_{w}{s}" for w in ("class", "bbox", "giou") for s in suffixes}
    sum(losses.values()).backward()
    for key, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key


def test_without_aux_loss_only_the_last_layer_is_supervised(detector):
    every = detector(batch())
    detector.aux_loss = False
    last = detector(batch())
    assert last.keys() == {key for key in every if not key.endswith("_0")}
    for key in (key for key in last if "_dn" not in key):  # denoising queries are drawn again
        torch.testing.assert_close(last[key], every[key])


def test_prepared_targets_are_taken_as_they_are(detector):
    inputs = batch()
    targets = detector.prepare_targets(inputs)
    torch.manual_seed(0)
    expected = detector(inputs)
    for entry in inputs:
        del entry["instances"]
    torch.manual_seed(0)
    torch.testing.assert_close(detector(inputs, targets), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_a_step_with_finite_losses(detector, dtype):
    with torch.autocast("cpu", dtype=dtype):
        losses = detector(batch())
    exact = detector(batch())
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in detector.parameters())
    first = "loss_class_enc" if "loss_class_enc" in losses else "loss_class_0"
    torch.testing.assert_close(losses[first], exact[first], rtol=0.1, atol=0)


def test_training_reduces_the_loss(detector):
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = sum(detector(batch()).values())
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.8 * sum(history[:5])


def test_detections_are_in_the_original_image_by_falling_score(detector):
    (entry,) = batch((1,), sizes=((64, 96),))
    (result,) = detector.eval()([entry | {"height": 30, "width": 500}])
    instances = result["instances"]
    assert instances.image_size == (30, 500)
    assert 0 < len(instances) <= QUERIES * 3 < detector.select_box_nums_for_evaluation
    boxes = instances.pred_boxes.tensor
    assert (boxes >= 0).all() and (boxes <= torch.tensor([500, 30, 500, 30])).all()
    assert (instances.scores.diff() <= 0).all()
    (result,) = detector([{"image": entry["image"]}])
    assert result["instances"].image_size == (64, 96)


def test_calls_are_as_the_forward_hooks_read_them(detector, name):
    """The hooks serve detrex's detectors too, so names and layouts are detrex's."""
    seen = {}
    for part in ("encoder", "decoder"):
        getattr(detector.transformer, part).register_forward_hook(
            lambda _, args, kwargs, output, part=part: seen.update({part: (args, kwargs, output)}),
            with_kwargs=True,
        )
    detector.transformer.register_forward_pre_hook(lambda _, args: seen.update(transformer=args))
    detector(batch())
    features, masks, *_ = seen["transformer"]
    _, _, memory = seen["encoder"]
    args, kwargs, (states, references) = seen["decoder"]
    queries = states.shape[2]
    assert args == () and states.shape == (2, 2, queries, 16)
    assert references.shape[:3] == (2, 2, queries)
    if name == "dab_detr":  # one level, sequence first
        assert features.shape == (2, 16, 4, 6) and masks.shape == (2, 4, 6)
        assert memory.shape == (24, 2, 16) and kwargs["query"].shape == (queries, 2, 16)
        assert kwargs["anchor_box_embed"].shape == (queries, 2, 4)
        return
    assert [f.shape[-2:] for f in features] == [m.shape[-2:] for m in masks]
    assert all(mask.dtype == torch.bool for mask in masks)
    assert memory.shape == (2, sum(m[0].numel() for m in masks), 16)
    assert kwargs["query"].shape == (2, queries, 16)
    assert kwargs["reference_points"].shape[:2] == (2, queries)
    assert (kwargs["query_pos"] is None) == (name == "dino")
    own_mask, second_mask = kwargs["attn_masks"]
    assert second_mask is None and (own_mask is None) == (name != "dino")


def with_appended(kwargs: dict, extra: int, hidden_by: str | None) -> dict:
    """The decoder's arguments with random further queries, isolated from its own."""
    axis = 0 if "anchor_box_embed" in kwargs else 1  # DAB-DETR's are sequence first
    own, images = kwargs["query"].shape[axis], kwargs["query"].shape[1 - axis]
    changed = {}
    for key in ("query", "query_pos", "reference_points", "anchor_box_embed"):
        if isinstance(kwargs.get(key), Tensor):
            more = torch.rand_like(kwargs[key].narrow(axis, 0, extra))
            changed[key] = torch.cat((kwargs[key], more), axis)
    appended = torch.arange(own + extra) >= own
    if hidden_by == "mask":
        changed["attn_masks"] = [appended[:, None] != appended, None]
    elif hidden_by == "blocks":
        changed["attn_masks"] = [QueryBlocks((own, extra), (None, None), (None, None)), None]
    elif hidden_by == "padding":
        changed["query_key_padding_mask"] = appended.expand(images, -1)
    return kwargs | changed


@pytest.mark.parametrize("hidden_by", ["mask", "blocks", "padding", None])
@torch.no_grad()
def test_appended_queries_change_nothing_where_they_are_hidden(detector, hidden_by):
    detector.eval()
    decoder, outputs = detector.transformer.decoder, []
    decoder.register_forward_hook(lambda _, __, output: outputs.append(output))
    before = detector(batch())
    decoder.register_forward_pre_hook(
        lambda _, args, kwargs: (args, with_appended(kwargs, 3, hidden_by)), with_kwargs=True
    )
    decoder.register_forward_hook(lambda _, __, output: tuple(x[:, :, :QUERIES] for x in output))
    after = detector(batch())
    same = True
    for alone, joined in zip(*outputs, strict=True):
        assert joined.shape[2] == QUERIES + 3
        same &= torch.allclose(joined[:, :, :QUERIES], alone, atol=1e-5, rtol=1e-5)
    assert same == (hidden_by is not None)
    if hidden_by is not None:
        for one, other in zip(before, after, strict=True):
            torch.testing.assert_close(one["instances"].scores, other["instances"].scores)


MULTI_SCALE = {
    "transformer.two_stage_num_proposals=5": "num_queries=7 but .*=5",
    "transformer.encoder.embed_dim=32": "embed_dim=16 but .*=32",
    "neck.num_outs=4": "neck gives 4 levels",
}
EVERY = {
    "criterion.num_classes=4": "num_classes=3 but criterion.num_classes=4",
    "transformer.encoder.post_norm=True": "post_norm=True is not supported",
    "position_embedding.num_pos_feats=16": "gives 32 channels, .* 16. Fix: .*num_pos_feats",
}
REFUSED = {
    "dino": EVERY | MULTI_SCALE | {"embed_dim=18": "divisible by 4, got 18"},
    "dab_detr": EVERY
    | {
        "transformer.encoder.embed_dim=32": "embed_dim=16 but transformer.encoder.embed_dim=32",
        "transformer.decoder.embed_dim=32": "embed_dim=16 but transformer.decoder.embed_dim=32",
        "embed_dim=18": "divisible by 4, got 18",
    },
    "deformable_detr": EVERY
    | MULTI_SCALE
    | {
        "as_two_stage=True": "needs with_box_refine=True",
        "transformer.as_two_stage=True": "as_two_stage=False but .*=True",
    },
    "deformable_detr_two_stage": {"embed_dim=18": "divisible by 4, got 18"},
}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [(name, *pair) for name, changes in REFUSED.items() for pair in changes.items()],
)
def test_values_that_disagree_are_refused(name, change, words):
    config = tiny_config(name)
    if change == "embed_dim=18" and "neck" in config:
        config.neck.norm_layer.num_groups = 2
    key, value = change.split("=")
    OmegaConf.update(config, key, int(value) if value.isdigit() else True)
    with pytest.raises(ValueError, match=words):
        instantiate(config)(batch())


@pytest.mark.parametrize("name", ["dino", "deformable_detr_two_stage"])
def test_images_with_fewer_tokens_than_queries_are_refused(name):
    config = tiny_config(name)
    config.num_queries = 60
    with pytest.raises(ValueError, match=r"=60, .* only \d+ tokens"):
        instantiate(config)(batch((1,), sizes=((32, 48),)))
