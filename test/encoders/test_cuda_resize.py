# SPDX-License-Identifier: Apache-2.0
"""Scaling on the device equals OpenCV's, within 1 of 255 levels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from step_ros.encoders.cuda import DeviceResize, area_weights, linear_weights
from step_ros.images.resize import cut_image, fit_image

CPU = torch.device('cpu')
sides = st.integers(1, 70)


def fit_on(device, image, size):
    cut = np.ascontiguousarray(cut_image(image, size))
    resize = DeviceResize(image.shape[:2], cut=cut.shape[:2], size=size, device=device)
    return resize(torch.from_numpy(cut)[None].to(device))[0].cpu().numpy()


def assert_alike(found, expected, *, exact=False):
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= (0 if exact else 1)


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.integers(0, 99))
def test_any_size_scales_to_any_other(shape, size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert_alike(fit_on(CPU, image, size), fit_image(image, size))


@pytest.mark.parametrize(
    ('shape', 'size'),
    [
        ((480, 640), (224, 224)),
        ((480, 640), (120, 160)),
        ((240, 320), (120, 160)),
        ((720, 1280), (224, 224)),
        ((1080, 1920), (224, 224)),
    ],
)
def test_usual_camera_sizes_shrink_to_the_same_bytes(shape, size):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert_alike(fit_on(CPU, image, size), fit_image(image, size), exact=True)


def test_image_of_the_right_size_is_returned_unchanged():
    x_bhw3 = torch.zeros(2, 32, 48, 3, dtype=torch.uint8)
    resize = DeviceResize((32, 48), cut=(32, 48), size=(32, 48), device=CPU)
    assert resize(x_bhw3) is x_bhw3


@given(sides, sides)
def test_weights_of_each_pixel_sum_to_one(one, other):
    # Area weights are only for shrinking.
    small, large = sorted((one, other))
    for weights in (linear_weights(small, large), area_weights(large, small)):
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='torch finds no CUDA device')
@pytest.mark.parametrize('shape', [(480, 640), (30, 40), (448, 448)])
def test_cuda_device_equals_opencv(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert_alike(fit_on(torch.device('cuda'), image, (224, 224)), fit_image(image, (224, 224)))
