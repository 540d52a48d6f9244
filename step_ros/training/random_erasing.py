"""Random erasing for windows: one rectangle of noise, the same in all frames.

Source: Zhong et al. 2020, which the longer STEP paper (supplement B) uses on Something-Something
v2; bounds as there.
"""

import numpy as np
from pydantic import Field, model_validator

from step_ros.schema import Strict


class RandomErasing(Strict):
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
