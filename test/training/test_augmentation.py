# SPDX-License-Identifier: Apache-2.0
"""Augmentation: the same for all frames of a window, and never against a label."""

import subprocess
import sys

import numpy as np
import pytest

from step_ros.images.resize import fit_image
from step_ros.training.augmentation import Augmentation, augment, cut_crop, view_generator


def window(height=60, width=90):
    """Frames that hold their own coordinates: red grows to the right, green downwards."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None]
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    return np.stack([image] * 3)


def draw(seed, images=None, **how):
    return augment(
        window() if images is None else images,
        Augmentation(**how),
        size=(40, 40),
        may_flip=how.get('flip', True),
        rng=np.random.default_rng(seed),
    )


def mirrored(images):
    return images[0, 20, -1, 0] < images[0, 20, 0, 0]


def test_all_frames_are_treated_alike():
    for seed in range(10):
        images = draw(seed)
        assert images.shape == (3, 40, 40, 3)
        assert (images == images[0]).all()


def test_half_of_the_views_are_mirrored():
    flips = [mirrored(draw(seed)) for seed in range(200)]
    assert 70 < sum(flips) < 130


def test_nothing_is_mirrored_against_a_label():
    for seed in range(50):
        images = augment(
            window(),
            Augmentation(),
            size=(40, 40),
            may_flip=False,
            rng=np.random.default_rng(seed),
        )
        assert not mirrored(images)
        assert not mirrored(draw(seed, flip=False))


def test_crops_lie_inside_the_streams_view():
    """The stream sees the middle 60 of 90 columns."""
    for seed in range(50):
        red = draw(seed, flip=False)[0, :, :, 0].astype(int)
        assert red.min() >= 255 * 15 / 89 - 3
        assert red.max() <= 255 * 75 / 89 + 3
        seen = (red.max() - red.min()) / 255 * 89 / 60
        assert seen >= 0.6**0.5 - 0.06


def test_random_operations_and_erasing_come_last_if_asked_for():
    strong = {'rand_augment': {'operations': 3, 'magnitude': 15}, 'random_erasing': {}}
    erased = 0
    for seed in range(60):
        plain, images = draw(seed), draw(seed, **strong)
        assert images.shape == plain.shape
        assert (images == images[0]).all()
        assert (images == draw(seed, **strong)).all()
        # Crop and flip are those of the plain view: they are drawn first.
        only_erased = draw(seed, random_erasing={'probability': 1})
        untouched = (only_erased == plain).all(axis=-1).mean()
        assert 0.6 < untouched < 1
        erased += (draw(seed, random_erasing={}) != plain).any()
    assert 5 < erased < 30
    assert any((draw(seed, rand_augment={}) != draw(seed)).any() for seed in range(5))


def test_cache_key_holds_the_augmentations_that_are_on():
    assert Augmentation().for_cache()['augmentation'] == {'smallest_crop': 0.6, 'flip': True}
    key = Augmentation(rand_augment={'magnitude': 7}).for_cache()['augmentation']
    assert key['rand_augment'] == {'operations': 2, 'magnitude': 7, 'probability': 1}
    # Tokens that the earlier, own operations made are not mixed with those of torchvision's.
    assert 'operations' not in Augmentation(random_erasing={}).for_cache()
    assert Augmentation(rand_augment={}).for_cache()['operations'] == 'torchvision'


@pytest.mark.slow
def test_torchvision_is_imported_only_for_rand_augment():
    script = (
        'import sys, numpy as np\n'
        'from step_ros.training.augmentation import Augmentation, augment\n'
        'for how in ({"random_erasing": {}}, {"rand_augment": {"operations": 9}}):\n'
        '    augment(np.zeros((2, 9, 9, 3), np.uint8), Augmentation(**how), size=(8, 8),'
        ' may_flip=True, rng=np.random.default_rng(0))\n'
        '    print("torchvision" in sys.modules)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ['False', 'True']


@pytest.mark.parametrize('size', [(40, 40), (30, 60), (60, 20)])
def test_crops_cover_the_image_from_end_to_end(size):
    image = window()[0]
    parts = [cut_crop(image, size, crop=number, crops=3) for number in range(3)]
    assert all(part.shape == (*size, 3) for part in parts)
    assert (parts[1] == fit_image(image, size)).all()
    assert (cut_crop(image, size, crop=0, crops=1) == parts[1]).all()
    for channel in (0, 1):
        values = np.stack([part[..., channel] for part in parts]).astype(int)
        assert values.min() < 6
        assert values.max() > 249


def test_each_view_has_its_own_repeatable_random_numbers():
    draws = {
        (clip, view): view_generator(0, clip, view).random()
        for clip in ('a', 'b')
        for view in (0, 1)
    }
    assert len(set(draws.values())) == 4
    assert view_generator(0, 'a', 1).random() == draws['a', 1]
    assert view_generator(1, 'a', 1).random() != draws['a', 1]


@pytest.mark.parametrize('share', [0, -1, 1.5])
def test_a_crop_that_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match='smallest_crop'):
        Augmentation(smallest_crop=share)


@pytest.mark.parametrize(
    ('part', 'field'), [('rand_augment', 'magnitude'), ('random_erasing', 'probability')]
)
def test_wrong_value_inside_is_named(part, field):
    with pytest.raises(ValueError, match=rf'{part}\.{field}'):
        Augmentation(**{part: {field: 99}})
