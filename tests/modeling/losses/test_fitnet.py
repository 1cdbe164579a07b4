"""FitNet: eq. (1) of the paper, against a literal transcription."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.clockdistill.modeling.losses.fitnet import FitNetLoss
from tests.modeling.losses.feature_maps import TARGETS, random_features


def literal(loss, student, teacher, masks):
    """Eq. (1) number by number, H W being the cells that are not padding."""
    total = 0.0
    images = len(masks[0])
    for level, mask in enumerate(masks):
        weight = loss.alignment.convs[level].weight[:, :, 0, 0].tolist()
        bias = loss.alignment.convs[level].bias.tolist()
        for b in range(images):
            cells = (~mask[b]).nonzero().tolist()
            error = 0.0
            for i, j in cells:
                x, t = student[level][b, :, i, j].tolist(), teacher[level][b, :, i, j].tolist()
                for k in range(len(t)):
                    f = sum(w * v for w, v in zip(weight[k], x, strict=True)) + bias[k]
                    error += (t[k] - f) ** 2
            total += error / (len(t) * len(cells)) / images
    return loss.weight * total


@settings(deadline=None, max_examples=20)
@given(widths=st.tuples(*[st.integers(1, 4)] * 2), seed=st.integers(0, 2**31))
def test_equals_the_literal_equation(widths, seed):
    loss = FitNetLoss(*widths, num_levels=2, weight=3.0)
    features = random_features(*widths, seed=seed)
    value = loss(*features, TARGETS)
    assert value.item() == pytest.approx(literal(loss, *features), rel=1e-4)


def test_adapts_also_where_widths_agree():
    assert len(list(FitNetLoss(4, 4, num_levels=2).parameters())) == 4  # weight and bias a level
