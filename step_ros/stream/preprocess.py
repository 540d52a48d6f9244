"""From a camera's pixels to what the encoder takes: one function for training and the robot."""

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
    if image_hw3.shape[:2] == size:
        return image_hw3
    top, left, height, width = fitted_box((image_hw3.shape[0], image_hw3.shape[1]), size)
    cut = image_hw3[top : top + height, left : left + width]
    # Averaging over areas when shrinking: small things must not flicker between grid frames.
    shrinks = min(image_hw3.shape[0] / size[0], image_hw3.shape[1] / size[1]) > 1
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(cut, size[::-1], interpolation=how)


def normalise(
    x_bhw3: Tensor, *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Turn uint8 RGB images `[b, h, w, 3]` into normalised float images `[b, 3, h, w]`."""
    x_b3hw = x_bhw3.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    mean_311 = torch.tensor(mean, device=x_b3hw.device).view(3, 1, 1)
    std_311 = torch.tensor(std, device=x_b3hw.device).view(3, 1, 1)
    return x_b3hw.div_(255).sub_(mean_311).div_(std_311)
