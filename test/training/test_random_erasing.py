# SPDX-License-Identifier: Apache-2.0
"""Random erasing: one rectangle of noise within its bounds, the same in all frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.training.augmentation import RandomErasing, random_erasing


def erase(seed, size=(40, 60), **how):
    # Noise is at most 255, so that every erased pixel differs from 300.
    images = np.full((3, *size, 3), 300, np.int64)
    return random_erasing(images, RandomErasing(**how), np.random.default_rng(seed))


@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    area=st.tuples(st.floats(0.01, 0.9), st.floats(0.01, 0.9)).map(sorted),
    narrowest=st.floats(0.1, 1),
)
def test_one_rectangle_is_erased_in_all_frames(seed, height, width, area, narrowest):
    images = erase(
        seed,
        (height, width),
        probability=1,
        smallest_area=area[0],
        largest_area=area[1],
        narrowest=narrowest,
    )
    assert (images == images[0]).all()
    erased = (images[0] < 300).all(axis=-1)
    rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
    tall, wide = len(rows), len(columns)
    assert tall * wide == erased.sum() > 0
    assert tall == rows[-1] - rows[0] + 1
    # Sides are whole pixels: half a pixel on either side.
    assert (tall - 0.5) * (wide - 0.5) <= area[1] * height * width + 1
    assert (tall + 0.5) * (wide + 0.5) >= area[0] * height * width - 1


def test_bounds_of_area_and_shape_hold():
    shares, ratios = [], []
    for seed in range(200):
        erased = (erase(seed, (200, 200), probability=1)[0] < 300).all(axis=-1)
        shares.append(erased.mean())
        sides = erased.any(axis=1).sum(), erased.any(axis=0).sum()
        ratios.append(sides[0] / sides[1])
    assert min(shares) == pytest.approx(0.02, abs=0.01)
    assert max(shares) == pytest.approx(1 / 3, abs=0.01)
    assert min(ratios) == pytest.approx(0.3, abs=0.05)
    assert max(ratios) == pytest.approx(1 / 0.3, abs=0.5)


def test_the_share_of_views_is_the_probability():
    erased = [(erase(seed, (10, 10), probability=0.25) < 300).any() for seed in range(400)]
    assert 70 < sum(erased) < 130


def test_the_rectangle_is_repeatable_noise():
    images = erase(3, probability=1)
    values = images[0][images[0] < 300]
    assert 100 < values.mean() < 155
    assert values.std() > 60
    assert (images == erase(3, probability=1)).all()


@pytest.mark.parametrize(
    ('values', 'why'),
    [
        ({'probability': 0}, 'probability'),
        ({'largest_area': 1}, 'largest_area'),
        ({'narrowest': 0}, 'narrowest'),
        (
            {'smallest_area': 0.5, 'largest_area': 0.4},
            'smallest_area=0.5 exceeds largest_area=0.4',
        ),
    ],
)
def test_values_out_of_range_are_refused(values, why):
    with pytest.raises(ValueError, match=why):
        RandomErasing(**values)
