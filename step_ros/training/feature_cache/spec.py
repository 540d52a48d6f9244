# SPDX-License-Identifier: Apache-2.0
"""The content of a feature cache, the format of its tokens, and the disk space it needs."""

import hashlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from rich.filesize import decimal

from step_ros.model.backbone import Backbone
from step_ros.model.tokens import TokenKind, tokens_per_frame

CacheType = Literal['float16', 'int8']


class CacheError(RuntimeError):
    """A feature cache is damaged, holds other tokens than expected, or has no room.

    Args:
        path: The file or folder at fault.
        why: The fault, and the mend.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f'{path}: {why}')
        self.path = path


class CacheSpec(BaseModel):
    """Every setting that changes a number in the cache; its digest names the cache's folder."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    format: Literal[1] = 1
    dataset: str = Field(description='name of the dataset and of its options')
    sources: str = Field(
        default='', description='digest of the clips and of the content of their files'
    )
    backbone: str = Field(description="timm's name of the architecture")
    digest: str = Field(description='digest of its weights')
    tokens: TokenKind = Field(description='kind of tokens')
    token_grid: tuple[int, int] | None = Field(
        default=None,
        description='rows and columns onto which patch tokens are averaged; none: one per patch',
    )
    image_size: tuple[int, int] = Field(description='height and width in pixels')
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    sampling: dict[str, Any] = Field(description='how frames are chosen')
    transform: dict[str, Any] = Field(description='how images are augmented')
    frames: int = Field(gt=0, description='T, frames in a window')
    views: int = Field(gt=0, description='windows kept of each clip')
    tokens_per_frame: int = Field(gt=0)
    width: int = Field(gt=0, description='channels of a token')
    dtype: CacheType = 'float16'

    @model_serializer(mode='wrap')
    def _serialise(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        # Left out if unset: caches from before a field keep their names.
        if self.token_grid is None:
            del content['token_grid']
        if not self.sources:
            del content['sources']
        return content

    @property
    def key(self) -> str:
        """The first digits of the SHA-256 of all fields."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of a clip's tokens: views, frames, tokens, width."""
        return self.views, self.frames, self.tokens_per_frame, self.width

    @property
    def clip_bytes(self) -> int:
        """Bytes of a clip."""
        values = math.prod(self.shape)
        # Signed bytes have a float32 scale per token.
        return values * 2 if self.dtype == 'float16' else values + 4 * values // self.width


def spec_for(
    backbone: Backbone,
    *,
    dataset: str,
    sampling: dict[str, Any],
    transform: dict[str, Any],
    frames: int,
    views: int,
    dtype: CacheType = 'float16',
    sources: str = '',
) -> CacheSpec:
    """Return the spec of a cache of a backbone's tokens.

    Args:
        backbone: The frozen encoder, set to the kind of tokens that the heads consume.
        dataset: Name of the dataset and of its options.
        sampling: How frames are chosen.
        transform: How images are augmented before encoding.
        frames: Frames in a window (T).
        views: Windows kept of each clip.
        dtype: Format of the tokens.
        sources: Digest of the clips and of the content of their files, from `clips_digest`.

    Raises:
        ValueError: The backbone has adapters or learns: its digest would not name its tokens.
    """
    if backbone.learns or backbone.adapters is not None:
        raise ValueError(
            f'backbone {backbone.name!r} has adapters or learns; a cache needs a frozen backbone '
            'without adapters'
        )
    return CacheSpec(
        dataset=dataset,
        sources=sources,
        backbone=backbone.name,
        digest=backbone.digest,
        tokens=backbone.consumed,
        token_grid=backbone.coarser_grid,
        image_size=backbone.image_size,
        mean=backbone.mean,
        std=backbone.std,
        sampling=sampling,
        transform=transform,
        frames=frames,
        views=views,
        tokens_per_frame=tokens_per_frame(backbone.consumed, backbone.tokens),
        width=backbone.width,
        dtype=dtype,
    )


def to_bytes(x_vtnd: np.ndarray, dtype: CacheType) -> tuple[np.ndarray, np.ndarray | None]:
    """Return tokens in the cache's format: half floats, or signed bytes with a scale per token."""
    if dtype == 'float16':
        return x_vtnd.astype(np.float16), None
    scales_vtn = np.abs(x_vtnd).max(axis=-1) / 127
    safe = np.where(scales_vtn > 0, scales_vtn, 1)[..., None]
    return np.rint(x_vtnd / safe).astype(np.int8), scales_vtn.astype(np.float32)


def quantisation_error(x_vtnd: np.ndarray, dtype: CacheType) -> float:
    """Return the relative error of tokens in the cache's format.

    Args:
        x_vtnd: Tokens as the encoder returns them.
        dtype: Format of the cache.

    Returns:
        Length of a token's error, divided by the length of the token; the mean over all tokens.
    """
    x_vtnd = x_vtnd.astype(np.float32)
    kept, scales_vtn = to_bytes(x_vtnd, dtype)
    read_vtnd = kept.astype(np.float32)
    if scales_vtn is not None:
        read_vtnd *= scales_vtn[..., None]
    errors_vtn = np.linalg.norm(read_vtnd - x_vtnd, axis=-1)
    lengths_vtn = np.linalg.norm(x_vtnd, axis=-1)
    # A token of zeros has no error.
    return float((errors_vtn / np.where(lengths_vtn > 0, lengths_vtn, 1)).mean())


# Share of the disk that stays free: other programs write too.
SPARE_SHARE = 0.02


def free_bytes(folder: Path) -> int:
    """Return the bytes that a cache may write into a folder, which need not exist yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    disk = shutil.disk_usage(existing)
    return max(0, int(disk.free - SPARE_SHARE * disk.total))


@dataclass(frozen=True, kw_only=True)
class CacheEstimate:
    """Size of a cache, in all and still to encode.

    Attributes:
        folder: Folder of the cache.
        clips: Number of clips.
        clips_left: Number of clips that are not yet encoded.
        clip_bytes: Bytes of a clip.
        free_bytes: Bytes that the disk has room for.
    """

    folder: Path
    clips: int
    clips_left: int
    clip_bytes: int
    free_bytes: int

    @property
    def bytes_left(self) -> int:
        """Bytes that are not yet written."""
        return self.clips_left * self.clip_bytes

    def __str__(self) -> str:
        size = decimal(self.clips * self.clip_bytes)
        if not self.clips_left:
            return f'{self.folder}: all {self.clips} clips are encoded, {size}'
        return (
            f'{self.folder}: {self.clips_left} of {self.clips} clips to encode, '
            f'{decimal(self.bytes_left)} of {size}; the disk has room for '
            f'{decimal(self.free_bytes)}'
        )


def check_room(estimates: Sequence[CacheEstimate]) -> None:
    """Check that caches fit on their disk together.

    Args:
        estimates: The caches, all on one disk.

    Raises:
        CacheError: The caches do not fit; names needed and free bytes.
    """
    needed = sum(estimate.bytes_left for estimate in estimates)
    free = min((estimate.free_bytes for estimate in estimates), default=0)
    if needed > free:
        raise CacheError(
            estimates[0].folder.parent,
            f'the caches need {decimal(needed)}, the disk has room for '
            f'{decimal(free)}; free disk space, lower sampling.train_views, or set cache.dtype '
            'to int8',
        )
