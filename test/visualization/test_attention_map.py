# SPDX-License-Identifier: Apache-2.0
"""Heat maps cover the right patches, and show the attention of the head itself."""

import numpy as np
import pytest
import torch

from step_ros.images.resize import fitted_box
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.visualization.attention_map import attention_sheet, draw_attention, newest_attention

GRID, SIZE = (3, 4), (60, 80)


def draw(image, weights_rc, **options):
    return draw_attention(image, weights_rc, box=fitted_box(image.shape[:2], SIZE), **options)


# The drawing


def test_hottest_patch_is_drawn_at_its_place():
    image = np.full((120, 160, 3), 60, np.uint8)
    weights = np.zeros(GRID)
    weights[1, 1] = 0.3
    drawn = draw(image, weights)
    change = np.abs(drawn.astype(int) - image).sum(axis=2)
    assert np.unravel_index(change.argmax(), change.shape)[0] in range(40, 80)
    assert np.unravel_index(change.argmax(), change.shape)[1] in range(40, 80)
    assert change[60, 60] > 100
    assert change[100, 140] == 0
    assert (image == 60).all()


@pytest.mark.parametrize('shape', [(60, 200, 3), (200, 80, 3), (60, 80, 3)])
def test_unseen_part_of_the_image_stays_unchanged(shape):
    image = np.full(shape, 60, np.uint8)
    changed = (draw(image, np.ones(GRID)) != 60).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (len(rows), len(columns)) == SIZE
    assert rows[0] == (shape[0] - 60) // 2
    assert columns[0] == (shape[1] - 80) // 2


def test_frames_with_one_scale_are_comparable():
    image = np.full((60, 80, 3), 60, np.uint8)
    options = {'low': 0.1, 'high': 0.5}
    cold = draw(image, np.full(GRID, 0.1), **options)
    warm = draw(image, np.full(GRID, 0.3), **options)
    hot = draw(image, np.full(GRID, 0.5), **options)
    assert np.array_equal(cold, image)
    assert np.abs(hot.astype(int) - 60).sum() > np.abs(warm.astype(int) - 60).sum() > 0


@pytest.mark.parametrize(
    ('weights', 'why'),
    [
        (np.ones(12), r'shape \(12,\); expected rows and columns'),
        (np.ones((0, 4)), 'expected rows and columns'),
        (-np.ones(GRID), 'negative'),
        (np.full(GRID, np.nan), 'not finite'),
    ],
)
def test_invalid_weights_are_refused(weights, why):
    with pytest.raises(ValueError, match=why):
        draw(np.zeros((60, 80, 3), np.uint8), weights)


# The attention of the recogniser's heads


@pytest.mark.parametrize('order_evidence', [True, False])
def test_newest_attention_equals_the_heads_attention(
    tiny_bundle, counting_encoder, film, order_evidence
):
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder, order_evidence=order_evidence)
    hypotheses = recogniser.process(film.steady(7))
    assert len(hypotheses) == 4
    x_btnd = counting_encoder.encode(counting_encoder.images[3:])[None]
    for task, head in tiny_bundle.model.heads.items():
        found = newest_attention(recogniser, 'front', task)
        with torch.inference_mode():
            expected_btn = head.attention_maps(x_btnd).columns_btn
        assert found.task == task
        assert found.weights_rc.shape == tiny_bundle.model.backbone.token_grid
        np.testing.assert_allclose(found.weights_rc.ravel(), expected_btn[0, -1], rtol=1e-3)
        assert found.even == 1 / (expected_btn.numel() + 1)


def test_no_attention_before_a_window_or_from_plain_heads(tiny_bundle, counting_encoder, film):
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder)
    assert newest_attention(recogniser, 'front', 'action') is None
    recogniser.process(film.steady(3))
    assert newest_attention(recogniser, 'front', 'action') is None
    plain = StreamingRecogniser(tiny_bundle, counting_encoder, streaming=False)
    plain.process(film.steady(5))
    assert newest_attention(plain, 'front', 'action') is None


def test_unknown_task_is_refused(tiny_bundle, counting_encoder, film):
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder)
    recogniser.process(film.steady(4))
    with pytest.raises(ValueError, match=r"no task 'gait'; there are action, verb, object"):
        newest_attention(recogniser, 'front', 'gait')


# The sheet of a window


def test_sheet_shows_frames_and_maps():
    images = np.random.default_rng(0).integers(0, 255, (3, 60, 80, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    maps = [rng.random((3, *grid)) for grid in ((3, 4), (1, 2))]  # a map may have a coarser grid
    sheet = attention_sheet(images, *maps, image_size=(60, 80))
    assert sheet.shape == (3 * 68, 3 * 88, 3)
    assert np.array_equal(sheet[4:64, 4:84], images[0])


def test_frames_of_a_window_share_a_scale():
    images = np.full((2, 60, 80, 3), 60, np.uint8)
    weights = np.stack([np.full((3, 4), 0.1), np.full((3, 4), 0.3)])
    sheet = attention_sheet(images, weights, image_size=(60, 80))
    cold, hot = sheet[72:132, 4:84], sheet[72:132, 92:172]
    assert np.array_equal(cold, images[0])
    assert (hot != images[1]).any(axis=2).all()
