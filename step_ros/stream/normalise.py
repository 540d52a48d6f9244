"""From pixels to what the backbone takes."""

import torch
from torch import Tensor


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
