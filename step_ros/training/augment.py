"""What is done to a clip's images before they are encoded, alike in all frames.

The STEP papers say "cropping and flipping" at 224 px and no more; the bounds are ours. For
Something-Something v2 they add RandAugment and random erasing; both are off by default. A clip is
never flipped when one of its labels would mean something else, or nothing, in the mirror: labels
belong to a clip, not to a view, and are not exchanged.
"""

import zlib
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from step_ros.stream.preprocess import fit_image, fitted_box
from step_ros.training.rand_augment import RandAugment, rand_augment
from step_ros.training.random_erasing import RandomErasing, random_erasing


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
