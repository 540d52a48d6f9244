"""A cache read as if its tokens had been kept in fewer bits: what would that cost?"""

from pathlib import Path

import torch
from torch import Tensor

from step_ros.training.cache_spec import CacheSpec, CacheType, to_bytes
from step_ros.training.feature_cache import FeatureCache


class RoundedCache(FeatureCache):
    """A finished cache of another type than it is.

    Args:
        folder: Its folder.
        spec: What is expected in it.
        dtype: How tokens are rounded on reading.
    """

    def __init__(self, folder: Path, spec: CacheSpec, *, dtype: CacheType) -> None:
        super().__init__(folder, spec)
        self._dtype = dtype

    def read(self, clip_id: str, view: int) -> Tensor:
        """Return the tokens of one view of a clip, rounded, float32, `[t, n, d]`."""
        values, scales = to_bytes(super().read(clip_id, view).numpy(), self._dtype)
        x_tnd = torch.from_numpy(values).float()
        return x_tnd if scales is None else x_tnd * torch.from_numpy(scales)[..., None]
