# SPDX-License-Identifier: Apache-2.0
"""The splits `train`, `val` and `test`: they share no scene, no texture and no speed."""

from __future__ import annotations

import hashlib

import numpy as np

SPLITS = ('train', 'val', 'test')

TEXTURE_IDS: dict[str, range] = {
    'train': range(0, 64),
    'val': range(64, 80),
    'test': range(80, 96),
}
"""Texture identifiers that each split may use."""

SHORTEST_S = 1.8
LONGEST_S = 2.8
_BINS = 30
_BIN_S = (LONGEST_S - SHORTEST_S) / _BINS
# Durations keep this distance from a bin's edges, as a share of the bin, so that rounding never
# moves one into another split.
_MARGIN = 0.05


def check_split(split: str) -> None:
    """Check that a split exists.

    Args:
        split: Name to check.

    Raises:
        ValueError: The split is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise ValueError(f'unknown split {split!r}; expected one of {SPLITS}')


def random_for(split: str, seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the random generator for one purpose in one scene.

    Args:
        split: One of `SPLITS`. It enters the hash, so equal seeds of two splits give different
            numbers.
        seed: Number of the scene within its split.
        *purpose: Use of the numbers; each purpose has its own numbers.

    Returns:
        A generator that depends on the arguments alone.
    """
    check_split(split)
    key = '/'.join([split, str(int(seed)), *map(str, purpose)])
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], 'little')))


def draw_duration(split: str, rng: np.random.Generator) -> float:
    """Draw the duration of an action.

    The range of durations is cut into narrow bins, and the bins cycle through the splits. So no
    two splits share a duration, and all splits are equally hard.

    Args:
        split: One of `SPLITS`.
        rng: Source of randomness.

    Returns:
        Seconds between `SHORTEST_S` and `LONGEST_S`.
    """
    step = len(SPLITS)
    index = int(rng.integers(_BINS // step)) * step + SPLITS.index(split)
    return SHORTEST_S + (index + float(rng.uniform(_MARGIN, 1.0 - _MARGIN))) * _BIN_S


def split_of_duration(duration_s: float) -> str:
    """Return the split that a duration belongs to.

    Args:
        duration_s: Seconds between `SHORTEST_S` and `LONGEST_S`.

    Returns:
        The only split with actions of this duration.
    """
    return SPLITS[int((duration_s - SHORTEST_S) / _BIN_S) % len(SPLITS)]


def draw_texture(split: str, rng: np.random.Generator) -> int:
    """Draw a texture of a split.

    Args:
        split: One of `SPLITS`.
        rng: Source of randomness.

    Returns:
        A texture identifier of the split.
    """
    return int(rng.choice(TEXTURE_IDS[split]))
