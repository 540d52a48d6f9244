# SPDX-License-Identifier: Apache-2.0
"""Normalisation of pixels for the backbone."""

import numpy as np
import torch

from step_ros.encoders.base import normalise


def test_normalise_equals_the_formula():
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    x_b3hw = normalise(torch.from_numpy(images), mean=mean, std=std)
    expected = (images / 255 - np.array(mean)) / np.array(std)
    assert x_b3hw.dtype == torch.float32
    assert x_b3hw.is_contiguous()
    np.testing.assert_allclose(x_b3hw.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_normalise_does_not_change_its_input():
    images = torch.full((1, 2, 2, 3), 100, dtype=torch.uint8)
    normalise(images, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert (images == 100).all()
