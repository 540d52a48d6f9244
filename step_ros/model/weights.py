# SPDX-License-Identifier: Apache-2.0
"""Weights of a backbone: download or read a safetensors file, check it, load it."""

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from step_ros.files import pointer_kind

# Key of a file's metadata: the rows and columns of patches of its positional embeddings.
GRID_KEY = 'patch_grid'

# Tensors of published weight files beside the encoder: classifiers and training aids.
BESIDE_THE_ENCODER = ('head.', 'head_dist.', 'fc_norm.', 'attn_pool.', 'mask_token', 'pre_logits.')


class WeightsError(RuntimeError):
    """The weights of a backbone are missing, damaged or not the requested ones."""


def download(name: str) -> Path:
    """Return the path of the weight file in timm's entry for an architecture.

    The file comes from the cache of the Hugging Face hub, or is downloaded to it.

    Raises:
        WeightsError: timm names no file, or the Hugging Face hub is out of reach.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise WeightsError(
            f'timm names no weights on the Hugging Face hub for backbone {name!r}; '
            'give the path of a safetensors file'
        )
    try:
        # Without the name of the safetensors file, timm would fall back to a pickled file.
        return Path(hf_hub_download(config.hf_hub_id, 'model.safetensors'))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise WeightsError(
            f'weights of backbone {name!r} could not be downloaded from {config.hf_hub_id} '
            f'({type(error).__name__}: {error}); download them on another machine and give the '
            'path of model.safetensors'
        ) from error


def checked_digest(path: Path, digest: str | None) -> str:
    """Return the digest of a safetensors file after checking the file.

    Args:
        path: The file.
        digest: The expected digest; None to accept any.

    Raises:
        WeightsError: The file is missing, damaged, not a safetensors file or has another digest.
    """
    if not path.is_file():
        raise WeightsError(f'weights {path} do not exist')
    if path.suffix != '.safetensors':
        raise WeightsError(
            f'weights {path} are not a .safetensors file; no other format is loaded, because '
            'pickled files can run code'
        )
    if kind := pointer_kind(path):
        raise WeightsError(f'weights {path} are {kind}')
    found = file_digest(path)
    if digest is not None and digest != found:
        raise WeightsError(f'weights {path} have digest {found}, expected {digest}')
    try:
        with safe_open(path, framework='pt') as file:
            file.keys()
    except SafetensorError as error:
        raise WeightsError(f'weights {path} are damaged: {error}') from error
    return found


def file_digest(path: Path) -> str:
    """Return the digest of a file: `sha256:` and the hexadecimal SHA-256 of its bytes."""
    sha = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return f'sha256:{sha.hexdigest()}'


def published_grid(vit: Any, name: str) -> tuple[int, int]:
    """Return rows and columns of patches of the weights in timm's entry for an architecture."""
    height, width = timm.get_pretrained_cfg(name).input_size[1:]
    patch_height, patch_width = vit.patch_embed.patch_size
    return height // patch_height, width // patch_width


def load_weights(vit: Any, path: Path, *, name: str, grid: tuple[int, int] | None = None) -> None:
    """Load a safetensors file into a timm model; resample positional embeddings if needed.

    Args:
        vit: The timm model.
        path: The file.
        name: timm's name of the architecture, for messages.
        grid: Rows and columns of patches of the file's positional embeddings. None reads them
            from the file's metadata (see `save_weights`), or assumes a square.

    Raises:
        WeightsError: A tensor is missing, has another shape, is not finite or belongs to another
            architecture.
    """

    def refuse(tensor: str, fault: str) -> NoReturn:
        raise WeightsError(
            f'weights {path} do not fit backbone {name!r}: tensor {tensor!r} {fault}'
        )

    found = load_file(path)
    if grid is None:
        with safe_open(path, framework='pt') as file:
            recorded = (file.metadata() or {}).get(GRID_KEY, '')
        grid = _parse_grid(recorded)
    expected = vit.state_dict()
    for key in sorted(found.keys() - expected.keys()):
        if not key.startswith(BESIDE_THE_ENCODER):
            refuse(key, 'is not part of this architecture')
        del found[key]
    for key, tensor in sorted(expected.items()):
        if key not in found:
            refuse(key, 'is missing')
        if key == 'pos_embed' and found[key].ndim == 3:
            found[key] = _resampled(found[key], tensor.shape, vit.patch_embed.grid_size, grid)
        if found[key].shape != tensor.shape:
            refuse(key, f'has shape {list(found[key].shape)}, expected {list(tensor.shape)}')
        if not bool(found[key].isfinite().all()):
            refuse(key, 'has values that are not finite')
    vit.load_state_dict(found)


def save_weights(state: Mapping[str, Tensor], path: Path, *, grid: tuple[int, int]) -> None:
    """Write a model's weights to a safetensors file.

    Args:
        state: The weights.
        path: The file.
        grid: Rows and columns of patches of the positional embeddings.
    """
    tensors = {key: value.contiguous().cpu() for key, value in state.items()}
    path.write_bytes(save(tensors, metadata={GRID_KEY: f'{grid[0]}x{grid[1]}'}))


def _parse_grid(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r'(\d+)x(\d+)', text)
    return (int(found[1]), int(found[2])) if found else None


def _resampled(
    pos_1ld: Tensor, shape: torch.Size, new: tuple[int, int], grid: tuple[int, int] | None
) -> Tensor:
    """Resample positional embeddings from their grid to a new one.

    Args:
        pos_1ld: The embeddings, prefix tokens first.
        shape: Shape of the embeddings that the model expects.
        new: Rows and columns of patches of the model.
        grid: Rows and columns of patches of `pos_1ld`; None if they are unknown.

    Returns:
        The resampled embeddings; `pos_1ld` unchanged if the grids agree or `grid` does not fit.
    """
    tokens = new[0] * new[1]
    prefix = shape[1] - tokens
    old = pos_1ld.shape[1] - prefix
    side = math.isqrt(max(old, 0))
    if grid is None:
        grid = new if old == tokens else (side, side)
    if grid == new or old < 1 or grid[0] * grid[1] != old:
        return pos_1ld
    resampled: Tensor = resample_abs_pos_embed(
        pos_1ld,
        new_size=list(new),
        old_size=list(grid),
        num_prefix_tokens=prefix,
    )
    return resampled
