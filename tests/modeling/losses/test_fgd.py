"""FGD: its equations against a literal transcription."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.clockdistill.modeling.losses.fgd import FGDLoss
from tests.modeling.losses.feature_maps import TARGETS, random_features

WEIGHTS = {"foreground": 2.0, "background": 0.5, "attention": 0.7, "global": 0.3}


def softmax(values):
    exps = [math.exp(value) for value in values]
    return [value / sum(exps) for value in exps]


def attention(cells, temperature):
    """Spatial attention per cell and channel attention, of {cell: [F_1, ..., F_C]}."""
    count, channels = len(cells), len(next(iter(cells.values())))
    spatial = [sum(abs(x) for x in values) / channels / temperature for values in cells.values()]
    channel = [
        sum(abs(values[k]) for values in cells.values()) / count / temperature
        for k in range(channels)
    ]
    spatial = [count * value for value in softmax(spatial)]
    return dict(zip(cells, spatial, strict=True)), [channels * x for x in softmax(channel)]


def scale_masks(boxes, size):
    """{cell: 1 / (H_k W_k)} in boxes, {cell: 1 / N_bg} elsewhere."""
    height, width = size
    foreground = {}
    for cx, cy, w, h in boxes:
        columns = range(
            max(math.floor((cx - w / 2) * width + 1e-4), 0),
            min(math.ceil((cx + w / 2) * width - 1e-4), width),
        )
        rows = range(
            max(math.floor((cy - h / 2) * height + 1e-4), 0),
            min(math.ceil((cy + h / 2) * height - 1e-4), height),
        )
        for i in rows:
            for j in columns:
                inside = 1 / (len(rows) * len(columns))
                foreground[i, j] = max(foreground.get((i, j), 0), inside)
    rest = [(i, j) for i in range(height) for j in range(width) if (i, j) not in foreground]
    return foreground, {cell: 1 / len(rest) for cell in rest}


def relation(block, cells):
    """R(F) of every cell."""
    scores = block.attention.weight.flatten().tolist()
    attended = softmax([sum(w * x for w, x in zip(scores, v, strict=True)) for v in cells.values()])
    context = [
        sum(a * values[k] for a, values in zip(attended, cells.values(), strict=True))
        for k in range(len(scores))
    ]
    linear1, norm, _, linear2 = block.transform

    def linear(layer, x):
        rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        return [sum(w * v for w, v in zip(row, x, strict=True)) + bias for row, bias in rows]

    hidden = linear(linear1, context)
    mean = sum(hidden) / len(hidden)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in hidden) / len(hidden) + norm.eps)
    gains = zip(hidden, norm.weight.tolist(), norm.bias.tolist(), strict=True)
    hidden = [max((x - mean) / deviation * gain + bias, 0.0) for x, gain, bias in gains]
    added = linear(linear2, hidden)
    return {
        cell: [x + a for x, a in zip(values, added, strict=True)] for cell, values in cells.items()
    }


def literal(loss, student, teacher, masks, targets):
    total = 0.0
    images = len(masks[0])
    for level, mask in enumerate(masks):
        for b in range(images):
            size = int((~mask[b, :, 0]).sum()), int((~mask[b, 0]).sum())
            inside = [(i, j) for i in range(size[0]) for j in range(size[1])]
            s = {(i, j): student[level][b, :, i, j].tolist() for i, j in inside}
            t = {(i, j): teacher[level][b, :, i, j].tolist() for i, j in inside}
            spatial_t, channel_t = attention(t, loss.temperature)
            spatial_s, channel_s = attention(s, loss.temperature)
            foreground, background = scale_masks(targets[b]["boxes"].tolist(), size)
            related_s = relation(loss.student_context[level], s)
            related_t = relation(loss.teacher_context[level], t)
            image = 0.0
            for cell in inside:
                weight = WEIGHTS["foreground"] * foreground.get(cell, 0)
                weight += WEIGHTS["background"] * background.get(cell, 0)
                for k, channel in enumerate(channel_t):
                    error = (t[cell][k] - s[cell][k]) ** 2
                    image += weight * spatial_t[cell] * channel * error
                    image += WEIGHTS["global"] * (related_t[cell][k] - related_s[cell][k]) ** 2
                image += WEIGHTS["attention"] * abs(spatial_t[cell] - spatial_s[cell])
            for attention_t, attention_s in zip(channel_t, channel_s, strict=True):
                image += WEIGHTS["attention"] * abs(attention_t - attention_s)
            total += image / images
    return total


def trained(temperature=0.5):
    """A loss whose blocks no longer are the identity."""
    weights = {f"{name}_weight": weight for name, weight in WEIGHTS.items()}
    loss = FGDLoss(4, 4, num_levels=2, temperature=temperature, **weights)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return loss


boxes_strategy = st.lists(
    st.tuples(*[st.floats(0.1, 0.9)] * 2, *[st.floats(0.05, 0.8)] * 2), max_size=3
)


@settings(deadline=None, max_examples=15)
@given(
    boxes=st.tuples(boxes_strategy, boxes_strategy),
    temperature=st.sampled_from([0.5, 0.8, 2.0]),
    seed=st.integers(0, 2**31),
)
def test_equals_the_literal_equations(boxes, temperature, seed):
    targets = [{"boxes": torch.tensor(image).reshape(-1, 4)} for image in boxes]
    loss = trained(temperature)
    features = random_features(seed=seed)
    expected = literal(loss, *features, targets)
    assert loss(*features, targets).item() == pytest.approx(expected, rel=1e-4)


def test_is_zero_where_features_agree_at_the_start():
    _, teacher, masks = random_features()
    loss = FGDLoss(4, 4, num_levels=2)
    assert loss(teacher, teacher, masks, TARGETS).item() == 0


def test_a_temperature_of_0_is_refused():
    with pytest.raises(ValueError, match="temperature=0"):
        FGDLoss(4, 4, num_levels=1, temperature=0)
