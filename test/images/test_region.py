# SPDX-License-Identifier: Apache-2.0
"""Regions: the part of an image that the encoder receives."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.images.region import Region, crop_box, seen_box
from step_ros.images.resize import cut_image
from step_ros.streaming.recogniser import StreamingRecogniser

ROWS, COLUMNS = 48, 64
# Each pixel holds its own row and column.
PLACES = np.stack(
    [*np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), indexing='ij'), np.zeros((ROWS, COLUMNS))],
    axis=-1,
).astype(np.uint8)


def crop(image, region, *, margin, shape):
    top, left, height, width = crop_box(image.shape[:2], region, margin=margin, shape=shape)
    return image[top : top + height, left : left + width]


def box(image):
    """Return row and column of the first pixel, then of the last pixel."""
    return (*image[0, 0, :2].tolist(), *image[-1, -1, :2].tolist())


def test_region_grows_to_the_aspect_ratio_of_the_encoder():
    seen = crop(PLACES, Region(left=20, top=10, width=8, height=16), margin=0.0, shape=(32, 32))
    assert box(seen) == (10, 16, 25, 31)


def test_margin_is_added_on_each_side():
    seen = crop(PLACES, Region(left=20, top=16, width=8, height=8), margin=0.25, shape=(7, 7))
    assert box(seen) == (14, 18, 25, 29)


def test_box_at_the_edge_is_moved_and_not_shrunk():
    seen = crop(PLACES, Region(left=60, top=0, width=4, height=4), margin=1.0, shape=(8, 8))
    assert box(seen) == (0, 52, 11, 63)


@pytest.mark.parametrize(
    'region',
    [
        Region(left=0, top=0, width=0, height=0),
        Region(left=64, top=0, width=5, height=5),
        Region(left=0, top=99, width=5, height=5),
    ],
)
def test_empty_or_outside_region_gives_the_whole_image(region):
    assert crop(PLACES, region, margin=0.1, shape=(32, 32)).shape == PLACES.shape


def test_negative_margin_or_size_is_refused():
    with pytest.raises(ValueError, match=r'margin=-0\.1'):
        crop(PLACES, Region(left=0, top=0, width=5, height=5), margin=-0.1, shape=(32, 32))
    with pytest.raises(ValueError, match='width=-1'):
        Region(left=0, top=0, width=-1, height=5)


@given(
    st.integers(0, COLUMNS - 1),
    st.integers(0, ROWS - 1),
    st.integers(1, 2 * COLUMNS),
    st.integers(1, 2 * ROWS),
    st.floats(0, 2),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_box_always_contains_the_region(left, top, width, height, margin, shape):
    region = Region(left=left, top=top, width=width, height=height)
    seen = crop(PLACES, region, margin=margin, shape=shape)
    first_row, first_column, last_row, last_column = box(seen)
    assert first_row <= top
    assert first_column <= left
    assert last_row >= min(top + height, ROWS) - 1
    assert last_column >= min(left + width, COLUMNS) - 1
    if seen.shape[0] < ROWS and seen.shape[1] < COLUMNS:
        assert abs(seen.shape[0] * shape[1] - seen.shape[1] * shape[0]) <= max(shape)


@given(
    st.one_of(
        st.none(),
        st.builds(
            Region,
            left=st.integers(0, COLUMNS + 5),
            top=st.integers(0, ROWS + 5),
            width=st.integers(0, 2 * COLUMNS),
            height=st.integers(0, 2 * ROWS),
        ),
    ),
    st.sampled_from([0.0, 0.3]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_seen_box_is_the_origin_of_the_pixels(region, margin, shape):
    cut = None
    if region is not None:
        cut = crop_box((ROWS, COLUMNS), region, margin=margin, shape=shape)
    image = PLACES if region is None else crop(PLACES, region, margin=margin, shape=shape)
    seen = cut_image(image, shape)
    top, left, height, width = seen_box((ROWS, COLUMNS), shape, cut)
    assert seen.shape[:2] == (height, width)
    assert box(seen)[:2] == (top, left)


def test_recogniser_receives_only_the_region(tiny_bundle, counting_encoder, film):
    region = Region(left=8, top=4, width=8, height=8)
    frames = [
        replace(frame, crop=partial(crop_box, region=region, margin=0.0, shape=(8, 8)))
        for frame in film.steady(4)
    ]
    [cropped] = StreamingRecogniser(tiny_bundle, counting_encoder).process(frames)
    pixels = [frame.load()[4:12, 8:16] for frame in frames]
    by_hand = [
        replace(frame, load=lambda image=image: image, crop=None)
        for frame, image in zip(frames, pixels, strict=True)
    ]
    [expected] = StreamingRecogniser(tiny_bundle, counting_encoder).process(by_hand)
    for task, other in zip(cropped.tasks, expected.tasks, strict=True):
        assert (task.scores_k == other.scores_k).all()
