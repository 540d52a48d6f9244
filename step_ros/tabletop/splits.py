"""What keeps `train`, `val` and `test` apart: seeds, textures and speeds are never shared."""

from __future__ import annotations

import hashlib

import numpy as np

SPLITS = ('train', 'val', 'test')

TEXTURE_IDS: dict[str, range] = {
    'train': range(0, 64),
    'val': range(64, 80),
    'test': range(80, 96),
}
"""Texture identifiers a split may use."""

SHORTEST_S = 1.8
LONGEST_S = 2.8
_BINS = 30
_BIN_S = (LONGEST_S - SHORTEST_S) / _BINS
# Durations stay off a bin's edges, so that rounding never moves one into another split.
_MARGIN = 0.05


def check_split(split: str) -> None:
    """Refuses an unknown split.

    Args:
        split: Name to check.

    Raises:
        ValueError: If it is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise ValueError(f'unknown split {split!r}, known are {SPLITS}')


def random_for(split: str, seed: int, *purpose: str | int) -> np.random.Generator:
    """Makes the random generator of one purpose in one scene.

    Args:
        split: One of `SPLITS`; it enters the hash, so that equal seeds of two splits differ.
        seed: Number of the scene within its split.
        *purpose: What the numbers are for; each purpose has numbers of its own.

    Returns:
        A generator that depends on nothing but the arguments.
    """
    check_split(split)
    key = '/'.join([split, str(int(seed)), *map(str, purpose)])
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], 'little')))


def draw_duration(split: str, rng: np.random.Generator) -> float:
    """Draws how long an action lasts.

    The whole range is cut into narrow intervals that the splits take in turn, so that no two
    splits share a duration and all are equally hard.

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
    """Tells which split a duration belongs to.

    Args:
        duration_s: Seconds between `SHORTEST_S` and `LONGEST_S`.

    Returns:
        The only split whose actions may last that long.
    """
    return SPLITS[int((duration_s - SHORTEST_S) / _BIN_S) % len(SPLITS)]


def draw_texture(split: str, rng: np.random.Generator) -> int:
    """Draws a texture of a split.

    Args:
        split: One of `SPLITS`.
        rng: Source of randomness.

    Returns:
        A texture identifier from the split's own range.
    """
    return int(rng.choice(TEXTURE_IDS[split]))
