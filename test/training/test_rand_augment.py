# SPDX-License-Identifier: Apache-2.0
"""RandAugment: the same change in all frames, no mirror, strength as defined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.training.augmentation import OPERATIONS, RandAugment, rand_augment

GEOMETRIC = ('rotate', 'shear x', 'shear y', 'translate x', 'translate y')
MEASURING = ('auto contrast', 'contrast', 'equalise')


def scene(height=48, width=64):
    """Red grows to the right, green downwards, blue is a disc."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(20, 235, width)[None]
    image[..., 1] = np.linspace(20, 235, height)[:, None]
    y, x = np.mgrid[:height, :width]
    image[..., 2] = np.where((x - 40) ** 2 + (y - 20) ** 2 < 100, 200, 60)
    return image


def window(frames=3):
    return np.stack([scene()] * frames)


def draw(seed, images=None, **how):
    return rand_augment(
        window() if images is None else images, RandAugment(**how), np.random.default_rng(seed)
    )


def amounts(name):
    most = OPERATIONS[name].most
    return (-most, most) if OPERATIONS[name].signed else (most,)


@given(
    seed=st.integers(0, 10**6),
    operations=st.integers(1, 6),
    magnitude=st.floats(0, 30),
    probability=st.floats(0.1, 1),
)
def test_all_frames_are_changed_alike(seed, operations, magnitude, probability):
    how = {'operations': operations, 'magnitude': magnitude, 'probability': probability}
    images = draw(seed, **how)
    assert images.shape == (3, 48, 64, 3)
    assert images.dtype == np.uint8
    assert (images == images[0]).all()
    assert (images == draw(seed, **how)).all()


def test_the_input_is_not_changed():
    images = window()
    for seed in range(20):
        draw(seed, images, magnitude=30, operations=4)
    assert (images == window()).all()


@pytest.mark.parametrize('name', OPERATIONS)
def test_a_larger_amount_changes_more(name):
    change, images = OPERATIONS[name], window(1)
    for amount in amounts(name):
        little = np.abs(change(images, amount / 4).astype(int) - images).mean()
        much = np.abs(change(images, amount).astype(int) - images).mean()
        if name == 'identity':
            assert little == much == 0
        elif name in ('auto contrast', 'equalise'):
            assert little == much > 0
        else:
            assert much > little > 0


@pytest.mark.parametrize('name', sorted(set(OPERATIONS) - {'auto contrast', 'equalise'}))
def test_magnitude_zero_changes_nothing(name):
    assert (OPERATIONS[name](window(1), 0.0) == window(1)).all()


@pytest.mark.parametrize('name', GEOMETRIC)
def test_nothing_is_mirrored_at_full_strength(name):
    """Right of a pixel stays right of it, below stays below."""
    for amount in amounts(name):
        marked = np.zeros((1, 200, 200, 3), np.uint8)
        places = {0: (98, 98), 1: (98, 104), 2: (104, 98)}  # near the centre, right of it, below
        for channel, (y, x) in places.items():
            marked[0, y - 1 : y + 2, x - 1 : x + 2, channel] = 255
        moved = OPERATIONS[name](marked, amount)[0].astype(int)
        moved[moved.min(axis=-1) == moved.max(axis=-1)] = 0  # grey: pixels that moved in
        (cx, cy), (rx, ry), (bx, by) = (
            [np.average(axis, weights=moved[..., channel]) for axis in np.mgrid[:200, :200][::-1]]
            for channel in range(3)
        )
        assert rx > cx + 3
        assert by > cy + 3
        assert (rx - cx) * (by - cy) - (ry - cy) * (bx - cx) > 0


def test_shift_and_rotation_have_the_given_amount():
    column = np.zeros((1, 48, 64, 3), np.uint8)
    column[:, :, 20] = 255
    moved = OPERATIONS['translate x'](column, 0.25)
    assert (moved[0, :, 36] == 255).all()
    turned = OPERATIONS['rotate'](window(1), np.pi / 6)[0].astype(float)
    # Red grew to the right; now also downwards, by the tangent of 30 degrees.
    right = turned[24, 36, 0] - turned[24, 28, 0]
    down = turned[28, 32, 0] - turned[20, 32, 0]
    assert down / right == pytest.approx(np.tan(np.pi / 6), abs=0.1)


@pytest.mark.parametrize('name', MEASURING)
def test_a_brightening_window_still_brightens(name):
    """Measured frame by frame, brightening and darkening would look the same."""
    light = np.linspace(0.3, 1, 6)[:, None, None, None]
    images = np.round(scene() * light).astype(np.uint8)
    for amount in (0.0,) if name != 'contrast' else (-0.6, 0.6):
        changed = OPERATIONS[name](images, amount)
        assert (np.diff(changed.mean(axis=(1, 2, 3))) > 0).all()


def test_colours_are_as_defined():
    one = np.array([[[[100, 150, 50]]]], np.uint8)
    grey = 0.299 * 100 + 0.587 * 150 + 0.114 * 50

    def of(name, amount):
        return OPERATIONS[name](one, amount)[0, 0, 0].tolist()

    assert of('brightness', 0.5) == [150, 225, 75]
    assert of('brightness', 0.9) == [190, 255, 95]
    assert of('colour', -0.9) == pytest.approx(
        [grey + 0.1 * (value - grey) for value in (100, 150, 50)], abs=0.51
    )
    assert of('contrast', -0.9) == of('colour', -0.9)
    assert of('posterise', 4) == [96, 144, 48]
    assert of('solarise', 128) == [100, 105, 50]
    assert of('auto contrast', 0) == of('equalise', 0) == [100, 150, 50]


def test_probability_and_number_of_operations_count():
    images = window(1)
    same = [(draw(seed, images, probability=0.1) == images).all() for seed in range(200)]
    # Two operations, each left out nine times in ten, or the identity.
    assert 140 < sum(same) < 190
    assert not all((draw(seed, images, operations=1) == images).all() for seed in range(20))


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('operations', 0),
        ('magnitude', -1),
        ('magnitude', 31),
        ('magnitude', float('nan')),
        ('probability', 0),
        ('probability', 1.1),
    ],
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        RandAugment(**{field: value})
