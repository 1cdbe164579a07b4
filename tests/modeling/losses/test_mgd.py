"""MGD: its equation against a literal transcription, and its random mask."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.clockdistill.modeling.losses.mgd import MGDLoss
from projects.clockdistill.modeling.step_random import StepRandom
from tests.modeling.losses.feature_maps import TARGETS, random_features


def conv3x3(layer, cells, size):
    """A 3x3 convolution over the cells that there are; those beyond count as 0."""
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    out = {}
    for i in range(size[0]):
        for j in range(size[1]):
            out[i, j] = [
                bias[k]
                + sum(
                    weight[k][c][di + 1][dj + 1] * cells[i + di, j + dj][c]
                    for di in (-1, 0, 1)
                    for dj in (-1, 0, 1)
                    if (i + di, j + dj) in cells
                    for c in range(len(weight[k]))
                )
                for k in range(len(weight))
            ]
    return out


def literal(loss, student, teacher, masks, draws):
    """Every image on its own map, without its padding."""
    total = 0.0
    images = len(masks[0])
    for level, mask in enumerate(masks):
        draw = draws.uniform((images, 1, *mask.shape[1:]))
        conv1, conv2 = loss.generation[level].conv1, loss.generation[level].conv2
        for b in range(images):
            size = int((~mask[b, :, 0]).sum()), int((~mask[b, 0]).sum())
            cells = {
                (i, j): [
                    x if draw[b, 0, i, j] >= loss.mask_ratio else 0.0
                    for x in student[level][b, :, i, j].tolist()
                ]
                for i in range(size[0])
                for j in range(size[1])
            }
            hidden = conv3x3(conv1, cells, size)
            hidden = {at: [max(x, 0.0) for x in values] for at, values in hidden.items()}
            generated = conv3x3(conv2, hidden, size)
            for (i, j), values in generated.items():
                wanted = teacher[level][b, :, i, j].tolist()
                total += sum((t - x) ** 2 for t, x in zip(wanted, values, strict=True)) / images
    return loss.weight * total


@settings(deadline=None, max_examples=10)
@given(mask_ratio=st.sampled_from([0.0, 0.3, 0.65, 0.9]), seed=st.integers(0, 2**31))
def test_equals_the_literal_equation(mask_ratio, seed):
    loss = MGDLoss(2, 2, num_levels=2, weight=0.5, mask_ratio=mask_ratio, seed=seed)
    features = random_features(2, 2, seed=seed)
    value = loss(*features, TARGETS)
    expected = literal(loss, *features, StepRandom(seed))
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_the_mask_ratio_is_what_is_dropped_and_all_channels_of_a_cell_go_together():
    loss, seen = MGDLoss(3, 3, num_levels=1), []
    loss.generation[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features, padding = torch.ones(1, 3, 100, 100), torch.zeros(1, 100, 100, dtype=torch.bool)
    loss([features], [features], [padding], TARGETS[:1])
    visible = seen[0][0]  # (3, 100, 100)
    assert torch.equal(visible, visible[:1].expand_as(visible))
    # 10,000 cells: the standard deviation of the part is 0.005
    assert 1 - visible.mean().item() == pytest.approx(0.65, abs=0.025)


def test_each_step_draws_and_a_resumed_run_continues():
    features = random_features()
    loss = MGDLoss(4, 4, num_levels=2)
    first = loss(*features, TARGETS)
    resumed = MGDLoss(4, 4, num_levels=2)
    resumed.load_state_dict(loss.state_dict())
    second = loss(*features, TARGETS)
    assert not torch.equal(first, second)
    torch.testing.assert_close(resumed(*features, TARGETS), second)


def test_aligns_only_where_widths_differ():
    generation = 2 * 2 * 2  # levels, convolutions, weight and bias
    assert len(list(MGDLoss(4, 4, num_levels=2).parameters())) == generation
    assert len(list(MGDLoss(3, 4, num_levels=2).parameters())) == generation + 4


@pytest.mark.parametrize("mask_ratio", [-0.1, 1.0])
def test_bad_mask_ratios_are_refused(mask_ratio):
    with pytest.raises(ValueError, match=f"mask_ratio={mask_ratio}"):
        MGDLoss(4, 4, 1, mask_ratio=mask_ratio)
