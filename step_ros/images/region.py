# SPDX-License-Identifier: Apache-2.0
"""The region of interest: the part of the image around a person that the encoder receives."""

from dataclasses import dataclass

import numpy as np

from step_ros.images.resize import fitted_box

# Part of an image: top, left, height and width in pixels.
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle in an image, in pixels.

    Attributes:
        left: First column.
        top: First row.
        width: Columns; 0 for the whole image.
        height: Rows; 0 for the whole image.
    """

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        for name in ('left', 'top', 'width', 'height'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name}={getattr(self, name)}; expected 0 or more pixels')


def crop_box(
    image_shape: tuple[int, int], region: Region, *, margin: float, shape: tuple[int, int]
) -> Box:
    """Return the box to crop: the region with a margin, extended to the encoder's aspect ratio.

    The region is only extended, first by the margin, then to the aspect ratio. A box that crosses
    the edge of the image is moved inside. A side longer than the image becomes as long as the
    image.

    Args:
        image_shape: Height and width of the image.
        region: The region. If it is empty or outside of the image, the box is the whole image.
        margin: Margin on each side, as a share of the region's width and height.
        shape: Height and width of the encoder's input; only their ratio matters.

    Raises:
        ValueError: The margin is negative.
    """
    if margin < 0:
        raise ValueError(f'margin={margin}; expected 0 or more')
    rows, columns = image_shape
    top, left = min(region.top, rows), min(region.left, columns)
    height = min(region.height, rows - top)
    width = min(region.width, columns - left)
    if not height or not width:
        return 0, 0, rows, columns
    middle_y, middle_x = top + height / 2, left + width / 2
    wanted_height, wanted_width = height * (1 + 2 * margin), width * (1 + 2 * margin)
    scale = max(wanted_height / shape[0], wanted_width / shape[1])
    top, height = _inside(middle_y, scale * shape[0], rows)
    left, width = _inside(middle_x, scale * shape[1], columns)
    return top, left, height, width


def seen_box(image_shape: tuple[int, int], shape: tuple[int, int], box: Box | None) -> Box:
    """Return the part of an image that the encoder receives, after crop and fit.

    Args:
        image_shape: Height and width of the image.
        shape: Height and width of the encoder's input.
        box: The box that is cropped before `fit_image`; None for the whole image.
    """
    top, left, height, width = box or (0, 0, *image_shape)
    inner_top, inner_left, *size = fitted_box((height, width), shape)
    return top + inner_top, left + inner_left, size[0], size[1]


def _inside(middle: float, length: float, limit: int) -> tuple[int, int]:
    """Return start and length in pixels of an interval, moved and shortened into 0 to `limit`."""
    pixels = min(limit, int(np.ceil(length)))
    start = round(middle - pixels / 2)
    return max(0, min(start, limit - pixels)), pixels
