# SPDX-License-Identifier: Apache-2.0
"""Augmentation of training views: each random choice holds for all frames of a window.

The STEP papers say "cropping and flipping" at 224 px and no more; the bounds are ours. For
Something-Something v2 they add RandAugment (Cubuk et al. 2020) and random erasing (Zhong et al.
2020), see the longer STEP paper, supplement B. Both are off by default. A clip is never flipped
if one of its labels would mean something else, or nothing, in the mirror: labels belong to a
clip, not to a view, and are not exchanged.

The image operations of RandAugment are those of `torchvision.transforms.v2.functional`.
`v2.RandAugment` itself is not used, for three reasons. It draws from torch's global generator, but
a view must be the same in every process. It measures range, histogram and mean of each frame, so
that a light that goes up would be evened out; here the frames are stacked into one tall image for
the operations that measure. And it knows no probability. Random erasing takes nothing from
torchvision: `v2.RandomErasing` draws from the global generator too and its noise is a normal
distribution in float, while erasing itself is one assignment.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from step_ros.images.resize import fit_image, fitted_box
from step_ros.schema import StrictModel

STRONGEST = 30

# Colour of pixels that move in from beyond the edge.
GREY = [128.0, 128.0, 128.0]


class RandAugment(StrictModel):
    """How strongly RandAugment changes windows."""

    operations: int = Field(
        default=2, ge=1, le=14, description='N, number of operations, one after the other'
    )
    magnitude: float = Field(
        default=9,
        ge=0,
        le=STRONGEST,
        description=f'M, strength of the operations, up to {STRONGEST}',
    )
    probability: float = Field(
        default=1.0, gt=0, le=1, description='probability that a drawn operation is carried out'
    )


class RandomErasing(StrictModel):
    """How often and how much random erasing covers; bounds as in its paper."""

    probability: float = Field(
        default=0.25, gt=0, le=1, description='probability that a view is erased'
    )
    smallest_area: float = Field(
        default=0.02, gt=0, lt=1, description='least share of the image that is erased'
    )
    largest_area: float = Field(
        default=1 / 3, gt=0, lt=1, description='largest share of the image that is erased'
    )
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


class Augmentation(BaseModel):
    """How far a training view may differ from the stream's view."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    smallest_crop: float = Field(
        default=0.6, gt=0, le=1, description="least share of the stream's crop that is kept"
    )
    flip: bool = Field(default=True, description='whether half of the views are mirrored')
    rand_augment: RandAugment | None = Field(
        default=None, description='random operations after crop and flip; none: off'
    )
    random_erasing: RandomErasing | None = Field(
        default=None, description='a rectangle of noise, last of all; none: off'
    )

    def for_cache(self) -> dict[str, Any]:
        """Return the settings that enter a cache's key."""
        key = {'augmentation': self.model_dump(exclude_none=True), 'interpolation': 'area'}
        # Tokens of the earlier, own operations differ a little: they need another cache.
        return key | ({'operations': 'torchvision'} if self.rand_augment is not None else {})


# The settings of a view without augmentation, for a cache's key.
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
    """Return the augmented frames of a window, uint8 RGB of `size`.

    All frames are cut, scaled, mirrored, changed and erased alike.

    Args:
        images_thw3: The frames, uint8 RGB.
        how: The bounds.
        size: Height and width of the encoder's images in pixels.
        may_flip: Whether the clip's labels stay true in the mirror.
        rng: Source of all random choices.
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
    """Return one of several crops that are spread over the longer side, uint8 of `size`.

    Args:
        image_hw3: Any image, uint8.
        size: Height and width of the encoder's images in pixels.
        crop: Number of the crop, from 0, from the left or the top.
        crops: Number of crops; a single one is the stream's.
    """
    if crops == 1:
        return fit_image(image_hw3, size)
    *_, height, width = fitted_box((image_hw3.shape[0], image_hw3.shape[1]), size)
    top = (image_hw3.shape[0] - height) * crop // (crops - 1)
    left = (image_hw3.shape[1] - width) * crop // (crops - 1)
    return fit_image(image_hw3[top : top + height, left : left + width], size)


def rand_augment(
    images_thw3: np.ndarray, how: RandAugment, rng: np.random.Generator
) -> np.ndarray:
    """Return new frames, uint8 RGB, that the same random operations have changed.

    Args:
        images_thw3: The frames, uint8 RGB.
        how: Number and strength of the operations.
        rng: Source of the operations and their directions.
    """
    images_thw3 = images_thw3.copy()
    for name in rng.choice(list(OPERATIONS), size=how.operations):
        carried_out = rng.random() < how.probability
        sign = rng.choice((-1, 1))
        if carried_out:
            operation = OPERATIONS[name]
            amount = operation.most * how.magnitude / STRONGEST
            images_thw3 = operation(images_thw3, amount * sign if operation.signed else amount)
    return images_thw3


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of RandAugment.

    Attributes:
        change: Returns changed frames `[t, 3, h, w]`, uint8, by frames and an amount.
        most: The amount at magnitude 30; it is proportional to the magnitude.
        signed: Whether the amount goes either way.
        measures: Whether the operation measures the image. The frames are then one tall image.
    """

    change: Callable[[Tensor, float], Tensor]
    most: float = 0.0
    signed: bool = False
    measures: bool = False

    def __call__(self, images_thw3: np.ndarray, amount: float) -> np.ndarray:
        """Return the changed frames, uint8, `[t, h, w, 3]`."""
        frames, height, width, _ = images_thw3.shape
        if self.measures:
            images_thw3 = images_thw3.reshape(1, frames * height, width, 3)
        x_t3hw = torch.from_numpy(images_thw3).permute(0, 3, 1, 2)
        changed: np.ndarray = self.change(x_t3hw, amount).permute(0, 2, 3, 1).numpy()
        return np.ascontiguousarray(changed).reshape(frames, height, width, 3)


def _functional() -> Any:
    # Imported late: torchvision takes a second and is needed for augmentation alone.
    from torchvision.transforms.v2 import functional

    return functional


def _rounded(change: Callable[..., Tensor], x_t3hw: Tensor, factor: float) -> Tensor:
    """Apply a change in float: on uint8 torchvision cuts off grey and result, up to 2 levels."""
    return (255 * change(x_t3hw.float() / 255, factor)).round().to(torch.uint8)


def _solarise(x_t3hw: Tensor, amount: float) -> Tensor:
    # Values from the threshold on are inverted; 256 would be out of torchvision's range.
    inverted: Tensor = _functional().solarize(x_t3hw, min(255.0, 256 - amount))
    return inverted if amount >= 1 else x_t3hw


def _affine(
    x_t3hw: Tensor,
    *,
    angle: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
    shear: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Return frames turned, shifted or sheared about the centre; x before y.

    Args:
        x_t3hw: The frames.
        angle: Clockwise, in radians.
        shift: Share of width and of height.
        shear: Tangents of the angles; a positive one moves the lower or the right side on.
    """
    functional = _functional()
    height, width = x_t3hw.shape[-2:]
    moved: Tensor = functional.affine(
        x_t3hw,
        angle=math.degrees(angle),
        translate=[shift[0] * width, shift[1] * height],
        scale=1.0,
        shear=[-math.degrees(math.atan(tangent)) for tangent in shear],
        interpolation=functional.InterpolationMode.BILINEAR,
        fill=GREY,
    )
    return moved


# Amounts: shares of the value or of the side, bits dropped, levels inverted, radians. Operations,
# strengths and the scale from 0 to 30 are those of Cubuk et al.; none of them mirrors.
OPERATIONS: Mapping[str, Operation] = {
    'identity': Operation(change=lambda x, _: x),
    'auto contrast': Operation(change=lambda x, _: _functional().autocontrast(x), measures=True),
    'equalise': Operation(change=lambda x, _: _functional().equalize(x), measures=True),
    'brightness': Operation(
        change=lambda x, amount: _functional().adjust_brightness(x, 1 + amount),
        most=0.9,
        signed=True,
    ),
    'contrast': Operation(
        change=lambda x, amount: _rounded(_functional().adjust_contrast, x, 1 + amount),
        most=0.9,
        signed=True,
        measures=True,
    ),
    'colour': Operation(
        change=lambda x, amount: _rounded(_functional().adjust_saturation, x, 1 + amount),
        most=0.9,
        signed=True,
    ),
    'sharpness': Operation(
        change=lambda x, amount: _functional().adjust_sharpness(x, 1 + amount),
        most=0.9,
        signed=True,
    ),
    'posterise': Operation(
        change=lambda x, amount: _functional().posterize(x, 8 - round(amount)), most=4
    ),
    'solarise': Operation(change=_solarise, most=256),
    'rotate': Operation(
        change=lambda x, amount: _affine(x, angle=amount), most=math.pi / 6, signed=True
    ),
    'shear x': Operation(
        change=lambda x, amount: _affine(x, shear=(amount, 0)), most=0.3, signed=True
    ),
    'shear y': Operation(
        change=lambda x, amount: _affine(x, shear=(0, amount)), most=0.3, signed=True
    ),
    'translate x': Operation(
        change=lambda x, amount: _affine(x, shift=(amount, 0)), most=0.45, signed=True
    ),
    'translate y': Operation(
        change=lambda x, amount: _affine(x, shift=(0, amount)), most=0.45, signed=True
    ),
}


def random_erasing(
    images_thw3: np.ndarray, how: RandomErasing, rng: np.random.Generator
) -> np.ndarray:
    """Return new frames, uint8 RGB, perhaps with noise over one rectangle, the same in all.

    Args:
        images_thw3: The frames, uint8 RGB.
        how: Probability, size and shape of the rectangle.
        rng: Source of the choice, the rectangle and the noise.
    """
    images_thw3 = images_thw3.copy()
    if rng.random() >= how.probability:
        return images_thw3
    height, width = images_thw3.shape[1:3]
    area = rng.uniform(how.smallest_area, how.largest_area) * height * width
    # On a log scale a ratio of sides and its inverse are equally likely.
    ratio = np.exp(rng.uniform(np.log(how.narrowest), -np.log(how.narrowest)))
    # If one side is clipped to the image, the other side makes up for the lost area.
    tall = int(np.clip(round(np.sqrt(area * ratio)), 1, height))
    wide = int(np.clip(round(area / tall), 1, width))
    tall = int(np.clip(round(area / wide), 1, height))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    noise_hw3 = rng.integers(0, 256, (tall, wide, 3), dtype=np.uint8)
    images_thw3[:, top : top + tall, left : left + wide] = noise_hw3
    return images_thw3
