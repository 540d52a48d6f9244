"""A part of the image that matters, the person's: cut out before the encoder sees it."""

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
        width: Columns; 0 for all.
        height: Rows; 0 for all.
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
    """Choose what to cut out: a region, with room around it, in the shape that the encoder takes.

    The region grows, it is never cut: by the margin, then to the shape. Where it would reach over
    the image's edge it is moved inside. What is larger than the image is as large as the image.

    Args:
        image_shape: Height and width of the image.
        region: What must be seen. The whole image is chosen if it is empty or lies outside.
        margin: Room on each side, as a share of the region's own width and height.
        shape: Height and width that the encoder takes, of which only the ratio matters.

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
    """Return the part of an image that the encoder sees in the end.

    Args:
        image_shape: Height and width of the image.
        shape: Height and width that the encoder takes.
        box: What is cut out of it before the rest is fitted (`fit_image`); None: nothing is.
    """
    top, left, height, width = box or (0, 0, *image_shape)
    inner_top, inner_left, *size = fitted_box((height, width), shape)
    return top + inner_top, left + inner_left, size[0], size[1]


def _inside(middle: float, length: float, limit: int) -> tuple[int, int]:
    """Return where a stretch begins and how long it is, moved into 0 to `limit`."""
    whole = min(limit, int(np.ceil(length)))
    begin = round(middle - whole / 2)
    return max(0, min(begin, limit - whole)), whole
