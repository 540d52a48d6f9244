"""The encoder as a runtime: camera images in, tokens out."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from step_ros.model.backbone import Backbone
from step_ros.stream.preprocess import fit_image, normalise


class Encoder(Protocol):
    """Anything that turns images into tokens."""

    device: torch.device

    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into tokens `[b, n, d]`."""


def choose_device(wanted: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: The device is unknown or not there.
    """
    if wanted == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ValueError(
            f'device {wanted!r} is unknown; expected auto, cpu, cuda, cuda:N'
        ) from error
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f'device {wanted!r} is not there: torch finds {torch.cuda.device_count()} CUDA devices'
        )
    if device.type not in ('cpu', 'cuda'):
        raise ValueError(f'device {wanted!r} is not served; expected auto, cpu, cuda or cuda:N')
    return device


class TorchEncoder:
    """The backbone run by torch, in float32.

    Args:
        backbone: The frozen encoder; moved to `device`.
        device: Where it runs.
        max_batch: Most images in one forward pass; more are done in turns.
    """

    def __init__(self, backbone: Backbone, *, device: torch.device, max_batch: int = 16) -> None:
        self.device = device
        self._backbone = backbone.to(device)
        self._max_batch = max_batch

    @torch.inference_mode()
    def encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Encode images of any size, uint8 RGB `[h, w, 3]`, into tokens `[b, n, d]`."""
        backbone = self._backbone
        fitted = np.stack([fit_image(image, backbone.image_size) for image in images])
        x_bhw3 = torch.from_numpy(fitted).to(self.device)
        return torch.cat(
            [
                backbone(normalise(part, mean=backbone.mean, std=backbone.std))
                for part in torch.split(x_bhw3, self._max_batch)
            ]
        )
