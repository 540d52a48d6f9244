# SPDX-License-Identifier: Apache-2.0
"""Fit camera images to the size of the encoder's input, for training and for the robot.

This module does not import torch, so that the process of a camera needs no torch.
"""

from collections.abc import Sequence

import cv2
import numpy as np


def fitted_box(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of an image that the encoder receives: top, left, height, width in pixels.

    Args:
        shape: Height and width of the image.
        size: Height and width of the encoder's input.
    """
    (height, width), (wanted_height, wanted_width) = shape, size
    scale = min(height / wanted_height, width / wanted_width)
    cut_height = min(height, max(1, round(wanted_height * scale)))
    cut_width = min(width, max(1, round(wanted_width * scale)))
    return (height - cut_height) // 2, (width - cut_width) // 2, cut_height, cut_width


def fit_image(image_hw3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Crop the largest centred part with the aspect ratio of `size` and scale it to `size`.

    Args:
        image_hw3: An image, uint8.
        size: Height and width in pixels.

    Returns:
        The image at `size`, uint8.
    """
    shape = (image_hw3.shape[0], image_hw3.shape[1])
    if shape == size:
        return image_hw3
    interpolation = cv2.INTER_AREA if shrinks(shape, size) else cv2.INTER_LINEAR
    return cv2.resize(cut_image(image_hw3, size), size[::-1], interpolation=interpolation)


def fit_images(images: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Fit images of any size (`fit_image`) into one batch, uint8 `[b, h, w, 3]`."""
    return np.stack([fit_image(image, size) for image in images])


def cut_image(image_hw3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a view of the largest centred part of an image with the aspect ratio of `size`."""
    return cut_box(image_hw3, fitted_box((image_hw3.shape[0], image_hw3.shape[1]), size))


def cut_box(image_hw3: np.ndarray, box: tuple[int, int, int, int] | None) -> np.ndarray:
    """Return a view of a part of an image.

    Args:
        image_hw3: An image.
        box: Top, left, height and width in pixels; None for the whole image.
    """
    if box is None:
        return image_hw3
    top, left, height, width = box
    return image_hw3[top : top + height, left : left + width]


def shrinks(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether an image of this height and width becomes smaller at `size`.

    A shrinking image is averaged over areas, so that small objects do not flicker between frames.
    """
    return min(shape[0] / size[0], shape[1] / size[1]) > 1
