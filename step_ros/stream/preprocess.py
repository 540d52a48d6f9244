"""From a camera's pixels to what the encoder takes: one function for training and the robot."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor


def fitted_box(shape: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of an image that the encoder sees: top, left, height, width in pixels.

    Args:
        shape: Height and width of the image.
        size: Height and width that the encoder takes.
    """
    (height, width), (wanted_height, wanted_width) = shape, size
    scale = min(height / wanted_height, width / wanted_width)
    cut_height = min(height, max(1, round(wanted_height * scale)))
    cut_width = min(width, max(1, round(wanted_width * scale)))
    return (height - cut_height) // 2, (width - cut_width) // 2, cut_height, cut_width


def fit_image(image_hw3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut the largest centred part with the shape of `size` and scale it to `size`.

    Args:
        image_hw3: Any image, uint8.
        size: Height and width in pixels.

    Returns:
        The image at `size`, uint8.
    """
    shape = (image_hw3.shape[0], image_hw3.shape[1])
    if shape == size:
        return image_hw3
    how = cv2.INTER_AREA if shrinks(shape, size) else cv2.INTER_LINEAR
    return cv2.resize(cut_image(image_hw3, size), size[::-1], interpolation=how)


def fit_images(images: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Fit images of any size (`fit_image`) into one batch, uint8 `[b, h, w, 3]`."""
    return np.stack([fit_image(image, size) for image in images])


def cut_image(image_hw3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a view of the largest centred part of an image with the shape of `size`."""
    return cut_box(image_hw3, fitted_box((image_hw3.shape[0], image_hw3.shape[1]), size))


def cut_box(image_hw3: np.ndarray, box: tuple[int, int, int, int] | None) -> np.ndarray:
    """Return a view of a part of an image: top, left, height, width; None: all of it."""
    if box is None:
        return image_hw3
    top, left, height, width = box
    return image_hw3[top : top + height, left : left + width]


def shrinks(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether an image of this height and width becomes smaller at `size`.

    It is then averaged over areas: small things must not flicker between grid frames.
    """
    return min(shape[0] / size[0], shape[1] / size[1]) > 1


def normalise(
    x_bhw3: Tensor, *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Turn uint8 RGB images `[b, h, w, 3]` into normalised float images `[b, 3, h, w]`."""
    mean_311, std_311 = channels_311(mean), channels_311(std)
    return standardise(x_bhw3, mean_311.to(x_bhw3.device), std_311.to(x_bhw3.device))


def channels_311(values: tuple[float, float, float]) -> Tensor:
    """Return a value for each channel in the shape that meets `[b, 3, h, w]`."""
    return torch.tensor(values).view(3, 1, 1)


def standardise(x_bhw3: Tensor, mean_311: Tensor, std_311: Tensor) -> Tensor:
    """Do the work of `normalise`, with what it subtracts and divides by as tensors."""
    x_b3hw = x_bhw3.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return x_b3hw.div_(255).sub_(mean_311).div_(std_311)
