"""Heat maps lie where the patches lie, and only there."""

import numpy as np
import pytest

from step_ros.training.attention_overlay import attention_sheet, draw_attention

GRID, SIZE = (3, 4), (60, 80)


def test_the_hottest_patch_glows_where_it_is_seen():
    image = np.full((120, 160, 3), 60, np.uint8)
    weights = np.zeros(12)
    weights[5] = 0.3  # second row, second column
    drawn = draw_attention(image, weights, grid_size=GRID, image_size=SIZE)
    change = np.abs(drawn.astype(int) - image).sum(axis=2)
    assert np.unravel_index(change.argmax(), change.shape)[0] in range(40, 80)
    assert np.unravel_index(change.argmax(), change.shape)[1] in range(40, 80)
    assert change[60, 60] > 100
    assert change[100, 140] == 0
    assert (image == 60).all()


@pytest.mark.parametrize('shape', [(60, 200, 3), (200, 80, 3), (60, 80, 3)])
def test_what_the_encoder_does_not_see_stays_as_it_is(shape):
    image = np.full(shape, 60, np.uint8)
    drawn = draw_attention(image, np.ones(12), grid_size=GRID, image_size=SIZE)
    changed = (drawn != 60).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (len(rows), len(columns)) == SIZE
    assert rows[0] == (shape[0] - 60) // 2
    assert columns[0] == (shape[1] - 80) // 2


def test_frames_with_one_scale_are_comparable():
    image = np.full((60, 80, 3), 60, np.uint8)
    options = {'grid_size': GRID, 'image_size': SIZE, 'low': 0.1, 'high': 0.5}
    cold = draw_attention(image, np.full(12, 0.1), **options)
    warm = draw_attention(image, np.full(12, 0.3), **options)
    hot = draw_attention(image, np.full(12, 0.5), **options)
    assert np.array_equal(cold, image)
    assert np.abs(hot.astype(int) - 60).sum() > np.abs(warm.astype(int) - 60).sum() > 0


def test_a_sheet_shows_frames_and_maps():
    images = np.random.default_rng(0).integers(0, 255, (3, 60, 80, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    maps = [rng.random((3, *grid)) for grid in (GRID, (1, 2))]  # tokens may be averaged in one
    sheet = attention_sheet(images, *maps, image_size=SIZE)
    assert sheet.shape == (3 * 68, 3 * 88, 3)
    assert np.array_equal(sheet[4:64, 4:84], images[0])


@pytest.mark.parametrize(
    ('weights', 'why'),
    [
        (np.ones(11), r'expected 3 x 4 = 12'),
        (np.ones((3, 4)), r'shape \(3, 4\)'),
        (-np.ones(12), 'negative'),
        (np.full(12, np.nan), 'not finite'),
    ],
)
def test_what_are_no_weights_is_refused(weights, why):
    image = np.zeros((60, 80, 3), np.uint8)
    with pytest.raises(ValueError, match=why):
        draw_attention(image, weights, grid_size=GRID, image_size=SIZE)
