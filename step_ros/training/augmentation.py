"""What is done to a clip's images before they are encoded, alike in all frames.

The STEP papers say "cropping and flipping" at 224 px and no more; the bounds are ours. For
Something-Something v2 they add RandAugment and random erasing; both are off by default. A clip is
never flipped when one of its labels would mean something else, or nothing, in the mirror: labels
belong to a clip, not to a view, and are not exchanged.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from step_ros.images.resize import fit_image, fitted_box
from step_ros.schema import StrictModel

# ---- RandAugment for windows: a few random operations, each the same in all frames of a window.
#
# Source: Cubuk et al. 2020, which the longer STEP paper (supplement B) uses on Something-Something
# v2. Operations, strengths and the scale from 0 to 30 are the usual ones. Nothing mirrors. What an
# operation measures (mean, range, histogram) it measures on the window as a whole: a light that
# goes up must not be evened out frame by frame. Libraries do that, hence this small one.

STRONGEST = 30

# What moves in from beyond the edge.
GREY = (128, 128, 128)

# Share of red, green and blue in brightness (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114])

LEVELS = np.arange(256)


class RandAugment(StrictModel):
    """How strongly windows are changed."""

    operations: int = Field(
        default=2, ge=1, le=14, description='N, operations drawn, one after the other'
    )
    magnitude: float = Field(
        default=9, ge=0, le=STRONGEST, description=f'M, their strength, of {STRONGEST}'
    )
    probability: float = Field(
        default=1.0, gt=0, le=1, description='that an operation drawn is carried out'
    )


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One kind of change.

    Attributes:
        change: Changes frames, `[t, h, w, 3]`, by an amount.
        most: The amount at full strength; less in proportion.
        signed: Whether the amount goes either way.
    """

    change: Callable[[np.ndarray, float], np.ndarray]
    most: float = 0.0
    signed: bool = False


def rand_augment(
    images_thw3: np.ndarray, how: RandAugment, rng: np.random.Generator
) -> np.ndarray:
    """Change all frames of a window alike.

    Args:
        images_thw3: The frames, uint8 RGB.
        how: How many operations, and how strong.
        rng: Decides which, and their directions.

    Returns:
        New frames, uint8 RGB.
    """
    images_thw3 = images_thw3.copy()
    for name in rng.choice(list(OPERATIONS), size=how.operations):
        carried_out = rng.random() < how.probability
        sign = rng.choice((-1, 1))
        if carried_out:
            operation = OPERATIONS[name]
            amount = operation.most * how.magnitude / STRONGEST
            images_thw3 = operation.change(
                images_thw3, amount * sign if operation.signed else amount
            )
    return images_thw3


def _look_up(images_thw3: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace each value; `table` is `[256]`, or `[256, 3]` for each channel its own."""
    table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
    channels = np.broadcast_to(table.reshape(256, 1, -1), (256, 1, 3))
    flat = cv2.LUT(images_thw3.reshape(-1, 1, 3), np.ascontiguousarray(channels))
    return flat.reshape(images_thw3.shape)


def _identity(images_thw3: np.ndarray, _: float) -> np.ndarray:
    return images_thw3


def _brightness(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    return _look_up(images_thw3, LEVELS * (1 + amount))


def _contrast(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    mean = float(images_thw3.mean(axis=(0, 1, 2)) @ LUMA)
    return _look_up(images_thw3, mean + (1 + amount) * (LEVELS - mean))


def _colour(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    mixture_33 = (1 + amount) * np.eye(3) - amount * np.tile(LUMA, (3, 1))
    flat = cv2.transform(images_thw3.reshape(-1, 1, 3), mixture_33)
    return flat.reshape(images_thw3.shape)


def _sharpness(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    smooth_33 = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    same_33 = np.zeros((3, 3))
    same_33[1, 1] = 1
    kernel_33 = (1 + amount) * same_33 - amount * smooth_33
    return np.stack([cv2.filter2D(image, -1, kernel_33) for image in images_thw3])


def _posterise(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    return _look_up(images_thw3, LEVELS >> round(amount) << round(amount))


def _solarise(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    return _look_up(images_thw3, np.where(LEVELS + amount < 256, LEVELS, 255 - LEVELS))


def _auto_contrast(images_thw3: np.ndarray, _: float) -> np.ndarray:
    low_3, high_3 = images_thw3.min(axis=(0, 1, 2)), images_thw3.max(axis=(0, 1, 2))
    span_3 = high_3.astype(int) - low_3
    # A channel of one value has nothing to stretch.
    table = np.where(
        span_3 > 0, (LEVELS[:, None] - low_3) * 255 / np.maximum(span_3, 1), LEVELS[:, None]
    )
    return _look_up(images_thw3, table)


def _equalise(images_thw3: np.ndarray, _: float) -> np.ndarray:
    tables = []
    for channel in range(3):
        counts = np.bincount(images_thw3[..., channel].ravel(), minlength=256)
        # Where each value stands among all others: the middle of its own.
        ranks = (np.cumsum(counts) - counts / 2) / counts.sum()
        tables.append(ranks * 255 if np.count_nonzero(counts) > 1 else LEVELS)
    return _look_up(images_thw3, np.stack(tables, axis=-1))


def _warp(images_thw3: np.ndarray, matrix_22: np.ndarray, shift_2: np.ndarray) -> np.ndarray:
    """Move pixels about the centre; x before y."""
    height, width = images_thw3.shape[1:3]
    centre_2 = np.array([(width - 1) / 2, (height - 1) / 2])
    offset_2 = centre_2 + shift_2 - matrix_22 @ centre_2
    affine_23 = np.column_stack([matrix_22, offset_2])
    return np.stack(
        [
            cv2.warpAffine(image, affine_23, (width, height), borderValue=GREY)
            for image in images_thw3
        ]
    )


def _shear_x(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    return _warp(images_thw3, np.array([[1, amount], [0, 1]]), np.zeros(2))


def _shear_y(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    return _warp(images_thw3, np.array([[1, 0], [amount, 1]]), np.zeros(2))


def _translate_x(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    return _warp(images_thw3, np.eye(2), np.array([amount * images_thw3.shape[2], 0]))


def _translate_y(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    return _warp(images_thw3, np.eye(2), np.array([0, amount * images_thw3.shape[1]]))


def _rotate(images_thw3: np.ndarray, amount: float) -> np.ndarray:
    cosine, sine = np.cos(amount), np.sin(amount)
    return _warp(images_thw3, np.array([[cosine, -sine], [sine, cosine]]), np.zeros(2))


# Amounts: shares of the value or of the side, bits dropped, levels inverted, radians.
OPERATIONS: Mapping[str, Operation] = {
    'identity': Operation(change=_identity),
    'auto contrast': Operation(change=_auto_contrast),
    'equalise': Operation(change=_equalise),
    'brightness': Operation(change=_brightness, most=0.9, signed=True),
    'contrast': Operation(change=_contrast, most=0.9, signed=True),
    'colour': Operation(change=_colour, most=0.9, signed=True),
    'sharpness': Operation(change=_sharpness, most=0.9, signed=True),
    'posterise': Operation(change=_posterise, most=4),
    'solarise': Operation(change=_solarise, most=256),
    'rotate': Operation(change=_rotate, most=np.pi / 6, signed=True),
    'shear x': Operation(change=_shear_x, most=0.3, signed=True),
    'shear y': Operation(change=_shear_y, most=0.3, signed=True),
    'translate x': Operation(change=_translate_x, most=0.45, signed=True),
    'translate y': Operation(change=_translate_y, most=0.45, signed=True),
}

# ---- Random erasing for windows: one rectangle of noise, the same in all frames.
#
# Source: Zhong et al. 2020, which the longer STEP paper (supplement B) uses on Something-Something
# v2; bounds as there.


class RandomErasing(StrictModel):
    """How often and how much is erased."""

    probability: float = Field(default=0.25, gt=0, le=1, description='that a view is erased')
    smallest_area: float = Field(
        default=0.02, gt=0, lt=1, description='least share of the image that is erased'
    )
    largest_area: float = Field(default=1 / 3, gt=0, lt=1, description='largest share, likewise')
    narrowest: float = Field(
        default=0.3, gt=0, le=1, description='least ratio of the shorter to the longer side'
    )

    @model_validator(mode='after')
    def _check(self) -> 'RandomErasing':
        if self.smallest_area > self.largest_area:
            raise ValueError(
                f'smallest_area={self.smallest_area:g} exceeds '
                f'largest_area={self.largest_area:g}: expected at most that'
            )
        return self


def random_erasing(
    images_thw3: np.ndarray, how: RandomErasing, rng: np.random.Generator
) -> np.ndarray:
    """Put noise over the same rectangle of all frames of a window, or leave them.

    Args:
        images_thw3: The frames, uint8 RGB.
        how: How often and how much.
        rng: Decides whether, where and what.

    Returns:
        New frames, uint8 RGB.
    """
    images_thw3 = images_thw3.copy()
    if rng.random() >= how.probability:
        return images_thw3
    height, width = images_thw3.shape[1:3]
    area = rng.uniform(how.smallest_area, how.largest_area) * height * width
    # A ratio of sides and its inverse are as likely.
    ratio = np.exp(rng.uniform(np.log(how.narrowest), -np.log(how.narrowest)))
    # Where it would be longer than the image, the other side makes up for it.
    tall = int(np.clip(round(np.sqrt(area * ratio)), 1, height))
    wide = int(np.clip(round(area / tall), 1, width))
    tall = int(np.clip(round(area / wide), 1, height))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    noise_hw3 = rng.integers(0, 256, (tall, wide, 3), dtype=np.uint8)
    images_thw3[:, top : top + tall, left : left + wide] = noise_hw3
    return images_thw3


class Augmentation(BaseModel):
    """How far a training view may differ from what the stream would see."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    smallest_crop: float = Field(
        default=0.6, gt=0, le=1, description="least share of the stream's crop that is kept"
    )
    flip: bool = Field(default=True, description='whether half of the views are mirrored')
    rand_augment: RandAugment | None = Field(
        default=None, description='random operations after that; none: off'
    )
    random_erasing: RandomErasing | None = Field(
        default=None, description='a rectangle of noise at last; none: off'
    )

    def for_cache(self) -> dict[str, Any]:
        """Return what a cache's key has to know."""
        return {'augmentation': self.model_dump(exclude_none=True), 'interpolation': 'area'}


# What evaluation and the stream do.
PLAIN: dict[str, Any] = {'augmentation': None, 'interpolation': 'area'}


def view_generator(seed: int, clip_id: str, view: int) -> np.random.Generator:
    """Return the random numbers of one view of a clip: the same in every process and every run."""
    return np.random.default_rng([seed, zlib.crc32(clip_id.encode()), view])


def augment(
    images_thw3: np.ndarray,
    how: Augmentation,
    *,
    size: tuple[int, int],
    may_flip: bool,
    rng: np.random.Generator,
) -> np.ndarray:
    """Cut the same part out of all frames of a window, scale them, mirror them or not, and so on.

    Args:
        images_thw3: The frames, uint8 RGB.
        how: The bounds.
        size: Height and width that the encoder takes.
        may_flip: Whether the clip's labels stay true in the mirror.
        rng: Decides.

    Returns:
        The frames at `size`, uint8 RGB.
    """
    top, left, height, width = fitted_box((images_thw3.shape[1], images_thw3.shape[2]), size)
    share = rng.uniform(how.smallest_crop, 1) ** 0.5
    cut_height, cut_width = max(1, round(height * share)), max(1, round(width * share))
    top += int(rng.integers(height - cut_height + 1))
    left += int(rng.integers(width - cut_width + 1))
    flip = bool(rng.random() < 0.5) and how.flip and may_flip
    cut = images_thw3[:, top : top + cut_height, left : left + cut_width]
    fitted = np.stack([fit_image(image, size) for image in cut])
    if flip:
        fitted = np.stack([cv2.flip(image, 1) for image in fitted])
    if how.rand_augment is not None:
        fitted = rand_augment(fitted, how.rand_augment, rng)
    if how.random_erasing is not None:
        fitted = random_erasing(fitted, how.random_erasing, rng)
    return fitted


def cut_crop(image_hw3: np.ndarray, size: tuple[int, int], *, crop: int, crops: int) -> np.ndarray:
    """Cut one of several parts with the shape of `size`, spread over the longer side.

    Args:
        image_hw3: Any image, uint8.
        size: Height and width that the encoder takes.
        crop: Which, from 0: from the left or the top.
        crops: How many; the only one of one is what the stream sees.

    Returns:
        The part at `size`, uint8.
    """
    if crops == 1:
        return fit_image(image_hw3, size)
    *_, height, width = fitted_box((image_hw3.shape[0], image_hw3.shape[1]), size)
    top = (image_hw3.shape[0] - height) * crop // (crops - 1)
    left = (image_hw3.shape[1] - width) * crop // (crops - 1)
    return fit_image(image_hw3[top : top + height, left : left + width], size)
