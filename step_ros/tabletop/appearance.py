# SPDX-License-Identifier: Apache-2.0
"""Appearance of one scene: light, colours, textures, exposure and sensor noise."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from step_ros.tabletop.splits import draw_texture

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]

TEXTURE_PX = 384
"""Side of every texture in pixels."""

_SKINS = ((236, 188, 160), (224, 172, 140), (198, 140, 104), (160, 108, 76), (110, 74, 54))
_KINDS = 6


@dataclass(frozen=True, eq=False)
class Look:
    """Appearance of one scene.

    Attributes:
        light: Unit vector towards the light.
        ambient: Share of the light that reaches every face.
        diffuse: Share of the light that depends on a face's direction.
        gain: Exposure and white balance, one factor per channel.
        shadow: Darkness of shadows, 0 to 1.
        noise: Standard deviation of the sensor noise in grey levels.
        colours: RGB colour of each thing without a texture, 0 to 255.
        table_texture: Texture of the table top.
        wall_texture: Texture of the walls.
        floor_texture: Texture of the floor.
    """

    light: Floats
    ambient: float
    diffuse: float
    gain: Floats
    shadow: float
    noise: float
    colours: Mapping[str, Floats]
    table_texture: int
    wall_texture: int
    floor_texture: int

    @classmethod
    def draw(cls, split: str, rng: np.random.Generator) -> Look:
        """Draw a random look.

        Args:
            split: The split whose textures may be used.
            rng: Source of randomness.

        Returns:
            The look.
        """
        turn, height = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.75, 1.25)
        flat, up = math.cos(height), math.sin(height)
        light = np.array([math.cos(turn) * flat, math.sin(turn) * flat, up])
        warmth = float(rng.uniform(-0.09, 0.09))
        gain = float(rng.uniform(0.82, 1.15)) * np.array([1.0 + warmth, 1.0, 1.0 - warmth])
        table = draw_texture(split, rng)
        return cls(
            light=light,
            ambient=float(rng.uniform(0.50, 0.66)),
            diffuse=float(rng.uniform(0.36, 0.56)),
            gain=gain,
            shadow=float(rng.uniform(0.35, 0.65)),
            noise=float(rng.uniform(1.5, 7.0)),
            colours=_draw_colours(texture_colour(table), rng),
            table_texture=table,
            wall_texture=draw_texture(split, rng),
            floor_texture=draw_texture(split, rng),
        )

    def shade(self, colours_n3: Floats, normals_n3: Floats) -> Floats:
        """Return the colours of lit faces.

        Args:
            colours_n3: RGB, 0 to 255.
            normals_n3: Unit vectors in world coordinates.

        Returns:
            RGB as the camera records it, 0 to 255, `[n, 3]`.
        """
        light = self.ambient + self.diffuse * np.maximum(normals_n3 @ self.light, 0.0)
        # A little light from above makes sides and undersides differ where no light falls.
        light += 0.06 * normals_n3[:, 2]
        return np.clip(colours_n3 * light[:, None] * self.gain, 0.0, 255.0)


def _vivid(rng: np.random.Generator) -> Floats:
    hue, saturation, value = rng.uniform((0.0, 0.45, 0.45), (1.0, 0.95, 0.98)).tolist()
    return 255.0 * np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def _distinct(rng: np.random.Generator, background: Floats) -> Floats:
    """Draw a colour that differs clearly from the background."""
    colours = [_vivid(rng) for _ in range(3)]
    return max(colours, key=lambda colour: float(np.abs(colour - background).sum()))


def _draw_colours(table: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    names = ('cup', 'bottle', 'screwdriver', 'box', 'gear', 'cloth', 'cloth_stripe', 'base')
    colours = {name: _distinct(rng, table) for name in names}
    colours |= {f'clutter_{k}': _vivid(rng) for k in range(5)}
    colours['cap'] = _vivid(rng)
    colours['sleeve'] = 0.6 * _distinct(rng, table) + 0.4 * float(rng.uniform(40.0, 200.0))
    skin = np.array(_SKINS[int(rng.integers(len(_SKINS)))], np.float64)
    colours['skin'] = np.clip(skin + rng.uniform(-10.0, 10.0, 3), 0.0, 255.0)
    colours['hair'] = np.array([60.0, 45.0, 35.0]) * float(rng.uniform(0.4, 1.8))
    grey = float(rng.uniform(60.0, 120.0))
    colours['slab'] = 0.75 * table
    colours['legs'] = np.full(3, grey)
    unit = _vivid(rng)
    colours['unit'] = 0.35 * unit + 0.65 * float(rng.uniform(120.0, 220.0))
    colours['drawer'] = _distinct(rng, colours['unit'])
    colours['metal'] = np.array([178.0, 182.0, 190.0]) * float(rng.uniform(0.85, 1.1))
    colours['dark'] = np.full(3, float(rng.uniform(22.0, 45.0)))
    colours['white'] = np.full(3, float(rng.uniform(215.0, 240.0)))
    colours['panel'] = 0.4 * _vivid(rng) + 40.0
    colours['knob'] = _distinct(rng, colours['panel'])
    return colours


@lru_cache(maxsize=128)
def _palette(texture: int) -> tuple[Floats, Floats]:
    """Return the two colours of a texture."""
    rng = np.random.default_rng([7, texture])
    kind = texture % _KINDS
    if kind == 0:
        first = np.array([rng.uniform(120, 205), rng.uniform(80, 150), rng.uniform(45, 105)])
        second = first * rng.uniform(0.68, 0.85)
    else:
        hue, saturation, value = rng.uniform((0.0, 0.04, 0.42), (1.0, 0.38, 0.93)).tolist()
        first = 255.0 * np.array(colorsys.hsv_to_rgb(hue, saturation, value))
        second = np.clip(first * rng.uniform(0.72, 0.9) + rng.uniform(-18, 18, 3), 0.0, 255.0)
    return first, second


def texture_colour(texture: int) -> Floats:
    """Return the mean colour of a texture.

    Args:
        texture: Texture identifier.

    Returns:
        RGB, 0 to 255.
    """
    first, second = _palette(texture)
    return 0.5 * (first + second)


@lru_cache(maxsize=96)
def texture_image(texture: int) -> Image:
    """Paint a texture.

    Args:
        texture: Texture identifier; each has its own kind, colours, scale and grain.

    Returns:
        RGB image of `TEXTURE_PX` by `TEXTURE_PX` pixels. It is cached and read-only.
    """
    rng = np.random.default_rng([11, texture])
    first, second = _palette(texture)
    mix = _pattern(texture % _KINDS, rng)
    grain = _smooth_noise(rng, (TEXTURE_PX // 2, TEXTURE_PX // 2))
    mix = np.clip(mix, 0.0, 1.0)[..., None]
    image = first * (1.0 - mix) + second * mix + 9.0 * grain[..., None]
    result = np.clip(image, 0.0, 255.0).astype(np.uint8)
    result.setflags(write=False)
    return result


def _smooth_noise(rng: np.random.Generator, cells: tuple[int, int]) -> NDArray[np.float32]:
    """Return unit noise with that many cells along x and y, smoothed to the texture's size."""
    coarse = rng.standard_normal((cells[1], cells[0])).astype(np.float32)
    fine = cv2.resize(coarse, (TEXTURE_PX, TEXTURE_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)


def _pattern(kind: int, rng: np.random.Generator) -> Floats:
    """Return the share of the second colour at each pixel, about 0 to 1."""
    y, x = np.mgrid[0:TEXTURE_PX, 0:TEXTURE_PX] / TEXTURE_PX
    if kind == 0:  # boards of wood
        boards = int(rng.integers(3, 7))
        board = np.floor(y * boards)
        rings = _smooth_noise(rng, (3, 40)) + 0.6 * _smooth_noise(rng, (6, 110))
        seams = (np.abs(y * boards - np.round(y * boards)) < 0.02).astype(np.float64)
        tint = rng.uniform(-0.25, 0.25, boards + 1)[board.astype(int)]
        return np.asarray(0.45 + 0.22 * rings + tint + 0.5 * seams)
    if kind == 1:  # speckled stone
        specks = _smooth_noise(rng, (150, 150)) > 1.3
        return np.asarray(0.35 + 0.2 * _smooth_noise(rng, (9, 9)) + 0.5 * specks)
    if kind == 2:  # stripes
        turn = rng.uniform(0.0, math.pi)
        phase = (x * math.cos(turn) + y * math.sin(turn)) * rng.uniform(5.0, 14.0)
        return np.asarray(0.5 + 0.5 * np.tanh(4.0 * np.sin(2.0 * math.pi * phase)))
    if kind == 3:  # checks
        count = float(rng.uniform(4.0, 10.0))
        checks = np.floor(x * count) + np.floor(y * count)
        return np.asarray(np.mod(checks, 2.0) * 0.8 + 0.1)
    if kind == 4:  # cloudy plaster
        return 0.5 + 0.25 * _smooth_noise(rng, (5, 5)) + 0.12 * _smooth_noise(rng, (17, 17))
    # woven cloth
    threads = float(rng.uniform(30.0, 60.0))
    weave = np.sin(2.0 * math.pi * threads * x) * np.sin(2.0 * math.pi * threads * y)
    return np.asarray(0.5 + 0.25 * weave + 0.15 * _smooth_noise(rng, (8, 8)))
