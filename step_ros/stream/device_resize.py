"""`fit_image` on any device: the same areas and weights as OpenCV's, as two matrix products.

Scaling an image is a weighted mean along its rows and one along its columns. The weights depend on
the sizes alone, so they are worked out once for each size of image that a camera sends.
"""

import numpy as np
import torch
from torch import Tensor

from step_ros.stream.preprocess import shrinks


class DeviceResize:
    """Scales cut images to the size that the encoder takes, on the device where they lie.

    Equal to `cv2.resize` as `fit_image` calls it within 1 of 255 levels: OpenCV enlarges
    in fixed-point numbers.

    Args:
        shape: Height and width of the camera's images, before they are cut: they decide how.
        cut: Height and width of what is left of them, see `cut_image`.
        size: Height and width that the encoder takes.
        device: Where the images lie.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        cut: tuple[int, int],
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        weights = area_weights if shrinks(shape, size) else linear_weights
        self._same = cut == size
        self._halves = cut == (2 * size[0], 2 * size[1])
        self._rows = weights(cut[0], size[0]).to(device)
        self._columns = weights(cut[1], size[1]).t().contiguous().to(device)

    def __call__(self, x_bhw3: Tensor) -> Tensor:
        """Scale uint8 images `[b, h, w, 3]` of shape `cut`."""
        if self._same:
            return x_bhw3
        height, width = x_bhw3.shape[1:3]
        x_bhx = x_bhw3.view(-1, height, width * 3).to(torch.float32)
        x_bhw3 = torch.matmul(self._rows, x_bhx).view(len(x_bhx), -1, width, 3)
        x_bh3w = torch.matmul(x_bhw3.transpose(-1, -2), self._columns)
        x_bhw3 = x_bh3w.transpose(-1, -2)
        # OpenCV rounds ties up when it halves an image, else to the even number.
        x_bhw3 = x_bhw3.add_(0.5).floor_() if self._halves else x_bhw3.round_()
        return x_bhw3.clamp_(0, 255).to(torch.uint8)


def area_weights(given: int, wanted: int) -> Tensor:
    """Return the share of each given pixel in each wanted one, `[wanted, given]`: its overlap."""
    edges = np.arange(wanted + 1) * (given / wanted)
    pixels = np.arange(given)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.clip(overlap, 0, None)
    return torch.from_numpy(shares / shares.sum(axis=1, keepdims=True)).to(torch.float32)


def linear_weights(given: int, wanted: int) -> Tensor:
    """Return what the two given pixels beside the centre of a wanted one count in it."""
    centres = np.clip((np.arange(wanted) + 0.5) * (given / wanted) - 0.5, 0, given - 1)
    distance = np.abs(centres[:, None] - np.arange(given))
    return torch.from_numpy(np.clip(1 - distance, 0, None)).to(torch.float32)
