"""Maps have their weight where the detector looks, in pixels of the original image."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from projects.clockdistill.deployment.images import detector_input
from projects.clockdistill.modeling.detectors.layers.deformable_attention import DeformableAttention
from projects.clockdistill.visualization.attention.maps import (
    attention_map,
    energy_map,
    flat_tokens,
)
from projects.clockdistill.visualization.attention.reading import read
from tests.fuzzing import fuzz
from tests.modeling.tiny_detectors import batch, tiny_detector


def masks(*sizes: tuple[int, int, int, int]) -> list[torch.Tensor]:
    """Levels of (H, W) cells, of which (rows, columns) are not padding."""
    found = []
    for height, width, rows, columns in sizes:
        mask = torch.ones(height, width, dtype=torch.bool)
        mask[:rows, :columns] = False
        found.append(mask)
    return found


@fuzz(30)
@given(st.data())
def test_fuzz_one_token_is_brightest_at_its_cell(data) -> None:
    rows, columns = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    padding = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    level = masks((rows + padding[0], columns + padding[1], rows, columns))
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    tokens = torch.zeros(level[0].shape)
    tokens[row, column] = 1.0
    scale = data.draw(st.sampled_from([3, 8, 21]))
    heat = attention_map(tokens.flatten(), level, (rows * scale, columns * scale))
    assert heat.shape == (rows * scale, columns * scale)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert (y // scale, x // scale) == (row, column)
    assert heat.max() == pytest.approx(rows * columns, rel=0.02 if scale % 2 else 0.3)


def test_evenly_spread_weights_are_one_everywhere() -> None:
    levels = masks((4, 6, 4, 5), (2, 3, 2, 3))
    tokens = torch.cat([(~mask).float().flatten() / (~mask).sum() / 2 for mask in levels])
    np.testing.assert_allclose(attention_map(tokens, levels, (31, 47)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(attention_map(tokens, levels, (31, 47), 1), 0.5, rtol=1e-5)


def test_energy_is_the_mean_absolute_activation() -> None:
    levels = masks((2, 2, 2, 2), (1, 1, 1, 1))
    features = [torch.tensor([[[1.0, -2.0], [3.0, 0.0]], [[-3.0, 2.0], [1.0, 0.0]]])]
    features.append(torch.tensor([[[-4.0]], [[6.0]]]))
    tokens = flat_tokens(features)
    # |1| and |-3|, |-2| and |2|, |3| and |1|, 0; |-4| and |6|
    np.testing.assert_allclose(energy_map(tokens, levels, (2, 2), 0), [[2, 2], [2, 0]])
    np.testing.assert_allclose(energy_map(tokens, levels, (2, 2), 1), np.full((2, 2), 5))
    np.testing.assert_allclose(energy_map(tokens, levels, (2, 2)), [[3.5, 3.5], [3.5, 2.5]])


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_offsets_to_a_known_place_give_a_map_with_its_maximum_there(part) -> None:
    """The place is given in pixels of the original; the image is resized and padded."""
    original, resized, other = (60, 100), (120, 200), (192, 256)
    place_px = np.array([70.0, 20.0])
    detector = tiny_detector("dino").eval()
    wanted = torch.from_numpy(place_px / [100, 60]).float()  # in [0, 1] of the unpadded image

    def looks_there(query, reference_points, spatial_shapes):
        shape = (*query.shape[:2], 2, 3, 4)
        # cells of each level that the resized image covers, and those with padding
        covered = [(-(-200 // stride), -(-120 // stride)) for stride in strides]
        ratios = torch.tensor(
            [(c / w, r / h) for (c, r), (h, w) in zip(covered, spatial_shapes, strict=True)]
        )
        return (wanted * ratios)[:, None].expand(*shape, 2), torch.full(shape, 1 / 12)

    inputs = [*batch((0,), (other,)), detector_input(np.zeros((*original, 3), np.uint8), resized)]
    shapes = [mask.shape for mask in read(detector, inputs, image=1).masks]
    strides = [192 // height for height, _ in shapes]
    for module in detector.modules():
        if isinstance(module, DeformableAttention):
            module.sampling = looks_there
    reading = read(detector, inputs, image=1)
    assert all(mask.any() for mask in reading.masks)
    tokens = reading.attention(part, 0, [2]).tokens.mean(0)
    heat = attention_map(tokens, reading.masks, original, level=0)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    cell = strides[0] * original[0] / resized[0]  # pixels of the original
    assert abs(x + 0.5 - place_px[0]) <= cell and abs(y + 0.5 - place_px[1]) <= cell
    points = reading.attention(part, 0, [2]).points
    torch.testing.assert_close(points, wanted.expand_as(points), atol=1e-5, rtol=1e-5)
