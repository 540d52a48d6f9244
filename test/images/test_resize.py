# SPDX-License-Identifier: Apache-2.0
"""Fitting to the encoder's size: the middle of the image, undistorted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.images.resize import fit_image

sides = st.integers(1, 70)


def ramp(height, width):
    """Return an image whose channels are row, column, and the mean of both."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, (rows + columns) // 2], axis=-1).astype(np.uint8)


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.tuples(*[st.integers(0, 255)] * 3))
def test_image_of_one_colour_keeps_it(size, wanted, colour):
    image = np.full((*size, 3), colour, dtype=np.uint8)
    fitted = fit_image(image, wanted)
    assert fitted.shape == (*wanted, 3)
    assert fitted.dtype == np.uint8
    assert (fitted == np.array(colour, dtype=np.uint8)).all()


@given(st.tuples(sides, sides))
def test_image_of_the_right_size_is_returned_unchanged(size):
    image = ramp(*size)
    assert fit_image(image, size) is image


@pytest.mark.parametrize(
    ('size', 'wanted', 'rows', 'columns'),
    [
        pytest.param((60, 100), (60, 60), (0, 60), (20, 80), id='wide to square'),
        pytest.param((100, 60), (60, 60), (20, 80), (0, 60), id='tall to square'),
        pytest.param((60, 100), (60, 80), (0, 60), (10, 90), id='wide to less wide'),
        pytest.param((80, 80), (40, 80), (20, 60), (0, 80), id='square to wide'),
        pytest.param((61, 100), (60, 100), (0, 60), (0, 100), id='one extra row'),
    ],
)
def test_crop_is_the_middle(size, wanted, rows, columns):
    image = ramp(*size)
    np.testing.assert_array_equal(fit_image(image, wanted), image[slice(*rows), slice(*columns)])


@pytest.mark.parametrize('factor', [2, 3, 4])
@pytest.mark.parametrize('margin', [0, 10])
def test_shrinking_averages_over_areas(factor, margin):
    image = np.random.default_rng(factor).integers(
        0, 256, (20 * factor, 30 * factor + 2 * margin, 3), dtype=np.uint8
    )
    inner = image[:, margin : margin + 30 * factor].astype(float)
    means = inner.reshape(20, factor, 30, factor, 3).mean(axis=(1, 3))
    assert np.abs(fit_image(image, (20, 30)).astype(float) - means).max() <= 0.5 + 1e-6


def test_shrinking_keeps_a_single_bright_pixel():
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    for row in range(4):
        for column in range(4):
            image[:] = 0
            image[20 + row, 40 + column] = 255
            assert fit_image(image, (16, 24))[5, 10].tolist() == [16, 16, 16]


@given(
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
)
def test_scaling_keeps_the_aspect_ratio(size, wanted):
    # In a ramp of brightness, the step from pixel to pixel gives the scale along each side.
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 4, columns * 4, rows], axis=-1).astype(np.uint8)
    fitted = fit_image(image, wanted).astype(float)
    scale = min(height / wanted[0], width / wanted[1])
    step = (wanted[0] - 1) * 4 * scale
    assert fitted[-1, 0, 0] - fitted[0, 0, 0] == pytest.approx(step, abs=4 + 4 * scale)
    step = (wanted[1] - 1) * 4 * scale
    assert fitted[0, -1, 1] - fitted[0, 0, 1] == pytest.approx(step, abs=4 + 4 * scale)
    # The middle stays in the middle.
    assert fitted[..., 0].mean() == pytest.approx(4 * (height - 1) / 2, abs=4)
    assert fitted[..., 1].mean() == pytest.approx(4 * (width - 1) / 2, abs=4)


def test_enlarging_is_smooth():
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    image[:, 1] = 200
    row = fit_image(image, (8, 8))[0, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert len(set(row)) > 3


@pytest.mark.parametrize('size', [(1, 1), (1, 700), (700, 1), (3, 1000)])
def test_extreme_shapes_fit(size):
    assert fit_image(ramp(*size), (32, 48)).shape == (32, 48, 3)


def test_image_and_order_of_channels_are_not_changed():
    image = ramp(64, 96)
    before = image.copy()
    fitted = fit_image(image, (32, 48))
    np.testing.assert_array_equal(image, before)
    # Channel 0 still grows downwards, channel 1 to the right.
    assert fitted[-1, 0, 0] > fitted[0, -1, 0]
    assert fitted[0, -1, 1] > fitted[-1, 0, 1]


def test_strided_view_is_fitted_like_a_copy():
    image = ramp(64, 96)
    np.testing.assert_array_equal(
        fit_image(image[::-1, 10:90:2], (32, 32)),
        fit_image(np.ascontiguousarray(image[::-1, 10:90:2]), (32, 32)),
    )
