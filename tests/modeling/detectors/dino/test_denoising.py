"""Denoising queries: layout, noise, isolation, batches with few or no objects; their losses."""

import pytest
import torch
from torch import nn

from projects.clockdistill.modeling.detectors.dino.denoising import (
    DINOCriterion,
    denoising_queries,
)
from projects.clockdistill.modeling.detectors.matcher import HungarianMatcher
from tests.modeling.tiny_detectors import NUM_CLASSES, random_predictions, random_targets

WIDTH, QUERIES = 8, 4


def draw(wanted, dn_number=6, label_noise_ratio=0.0, box_noise_scale=0.0):
    table = nn.Embedding(NUM_CLASSES, WIDTH)
    options = (QUERIES, dn_number, label_noise_ratio, box_noise_scale)
    return denoising_queries(wanted, table, *options), table


@pytest.mark.parametrize(
    ("dn_number", "counts", "groups"),
    [(6, (3, 1), 2), (6, (4, 1), 1), (2, (5,), 1), (9, (1, 0), 9)],
)
def test_groups_fill_up_to_dn_number_and_are_at_least_one(dn_number, counts, groups):
    queries, _ = draw(random_targets(*counts), dn_number)
    assert queries.num_groups == groups
    assert queries.content.shape == (len(counts), groups * 2 * max(counts), WIDTH)


def test_without_noise_every_half_group_holds_the_objects_in_order():
    wanted = random_targets(3, 1)
    queries, table = draw(wanted)
    content = queries.content.view(2, 2, 2, 3, WIDTH)  # image, group, half, slot
    anchors = queries.anchors.view(2, 2, 2, 3, 4)
    for image, target in enumerate(wanted):
        count = len(target["labels"])
        expected = table(target["labels"]).expand(2, 2, -1, -1)
        torch.testing.assert_close(content[image, :, :, :count], expected)
        expected = target["boxes"].expand(2, 2, -1, -1)
        torch.testing.assert_close(anchors[image, :, :, :count], expected)
    assert not content[1, :, :, 1:].any() and (anchors[1, :, :, 1:] == 0.5).all()


def test_matches_are_the_positive_queries():
    wanted = random_targets(3, 0, 2)
    queries, _ = draw(wanted)
    matches = queries.matches
    boxes = torch.cat([t["boxes"] for t in wanted])
    torch.testing.assert_close(
        queries.anchors[matches.image[0], matches.query[0]], boxes[matches.target[0]]
    )
    assert ((matches.query % 6) < 3).all()  # the first half of a group
    assert matches.target[0].bincount().tolist() == [queries.num_groups] * 5


def test_positive_boxes_move_less_than_negative_ones():
    wanted = random_targets(50)
    queries, _ = draw(wanted, dn_number=200, box_noise_scale=1.0)
    anchors = queries.anchors.view(4, 2, 50, 4)
    boxes = wanted[0]["boxes"]
    half = boxes[:, 2:] / 2
    for anchor, least, most in ((anchors[:, 0], 0, 1), (anchors[:, 1], 1, 2)):
        for sign in (-1, 1):
            moved = anchor[..., :2] + sign * anchor[..., 2:] / 2 - (boxes[:, :2] + sign * half)
            # A negative box may turn inside out: its side is then 0 and its corners are not kept.
            kept = (anchor[..., 2:] > 2e-3) & (anchor[..., :2] > 2e-3) & (anchor[..., :2] < 0.998)
            clipped = (anchor[..., :2] + sign * anchor[..., 2:] / 2 - 0.5).abs() > 0.499
            part = (moved.abs() / half)[kept & ~clipped]
            assert len(part) > 100
            assert part.min() >= least - 1e-2 and part.max() <= most + 1e-2


def test_label_noise_replaces_half_of_its_ratio():
    wanted = random_targets(400)
    queries, table = draw(wanted, dn_number=4000, label_noise_ratio=0.5)
    clean = table(wanted[0]["labels"]).expand(20, -1, -1)
    changed = (queries.content.view(20, 400, WIDTH) != clean).any(-1).float().mean()
    # replaced with probability 1/4 by one of 3 classes, of which 2 differ: 1/6 +- 5 sigma
    assert abs(changed - 1 / 6) < 5 * (1 / 6 * 5 / 6 / 8000) ** 0.5


def test_the_mask_isolates_groups_and_hides_them_from_matching():
    queries, _ = draw(random_targets(2, 1), dn_number=4)  # 2 groups of 4
    blocked = queries.attn_mask
    group = torch.tensor([0] * 4 + [1] * 4)
    assert torch.equal(blocked[:8, :8], group[:, None] != group)
    assert blocked[8:, :8].all()  # matching sees no denoising query
    assert not blocked[8:, 8:].any() and not blocked[:8, 8:].any()
    assert blocked.shape == (8 + QUERIES, 8 + QUERIES)


@pytest.mark.parametrize(("counts", "dn_number"), [((0, 0), 6), ((2, 1), 0), ((), 6)])
def test_nothing_to_denoise(counts, dn_number):
    assert draw(random_targets(*counts), dn_number)[0] is None


WEIGHTS = {"loss_class": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}


def criterion() -> DINOCriterion:
    return DINOCriterion(NUM_CLASSES, HungarianMatcher(2.0, 5.0, 2.0), WEIGHTS)


def test_denoising_losses_match_known_objects_and_count_groups():
    wanted = random_targets(2, 1)
    queries, _ = draw(wanted, dn_number=4)
    found, denoised = (
        random_predictions(2, 2, 4),
        random_predictions(2, 2, queries.content.shape[1]),
    )
    losses = criterion()(found, wanted, None, denoised, queries)
    assert set(losses) == {n + s for n in WEIGHTS for s in ("", "_0", "_dn", "_dn_0")}
    # 2 groups of 2 * 2 slots; positives are slots 0 and 1 of image 0 and slot 0 of image 1.
    total = 0.0
    for image, target in enumerate(wanted):
        for group in range(2):
            for slot, box in enumerate(target["boxes"]):
                total += (denoised.boxes[1, image, group * 4 + slot] - box).abs().sum()
    torch.testing.assert_close(losses["loss_bbox_dn"], 5 * total / (3 * 2))


def test_without_denoising_its_losses_are_zero_under_the_same_names():
    losses = criterion()(random_predictions(3, 1, 4), random_targets(0))
    zeros = {n + s for n in WEIGHTS for s in ("_dn", "_dn_0", "_dn_1")}
    assert zeros <= set(losses) and not any(losses[name] for name in zeros)
