# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a fit: a stopped run continues from one as if it had never stopped.

Weights and the optimisers' state lie in safetensors files; nothing is pickled.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from step_ros.files import replace_folder

HEADS, OPTIMISERS, STATE = 'heads.safetensors', 'optimisers.safetensors', 'state.json'

# Fields of an identity, in words.
_FIELDS = {
    'tokens': 'tokens (videos, clips, encoder or sampling)',
    'labels': 'labels of the clips (a digest for each task)',
    'windows': 'number of training clips',
}


class CheckpointError(RuntimeError):
    """A checkpoint belongs to another fit."""


def save_checkpoint(
    folder: Path,
    *,
    epoch: int,
    identity: str,
    heads: nn.Module,
    optimisers: Mapping[str, Optimizer],
    rng: np.random.Generator,
    history: list[dict[str, float]],
) -> None:
    """Replace the checkpoint in a folder; if this fails, the earlier one stays.

    Args:
        folder: Folder of the checkpoint.
        epoch: Number of finished epochs.
        identity: All settings and data of the fit, as JSON, for `load_checkpoint` to compare.
        heads: All heads of all runs.
        optimisers: The optimiser of each run.
        rng: Random numbers of the order of clips and windows.
        history: Mean losses so far.
    """
    old = _old(folder)
    with replace_folder(folder) as partial:
        weights = {key: value.contiguous() for key, value in heads.state_dict().items()}
        save_file(weights, partial / HEADS)
        save_file(_optimiser_tensors(optimisers), partial / OPTIMISERS)
        state = {
            'epoch': epoch,
            'identity': identity,
            'rng': rng.bit_generator.state,
            'history': history,
        }
        (partial / STATE).write_text(json.dumps(state), encoding='utf-8')
        # A folder cannot be replaced by another at once. `load_checkpoint` takes the old one if
        # the process dies before the new one is in its place.
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.replace(old)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path,
    *,
    identity: str,
    heads: nn.Module,
    optimisers: Mapping[str, Optimizer],
    rng: np.random.Generator,
) -> tuple[int, list[dict[str, float]]]:
    """Restore heads, optimisers and random numbers from a checkpoint, if there is one.

    Returns:
        Number of finished epochs, and their mean losses; 0 and an empty list without a checkpoint.

    Raises:
        CheckpointError: The checkpoint is of a fit with other settings or data; names them.
    """
    old = _old(folder)
    if not folder.exists() and old.exists():
        # The process died between the two renames of `save_checkpoint`.
        old.replace(folder)
    if not (folder / STATE).is_file():
        return 0, []
    state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding='utf-8'))
    if state['identity'] != identity:
        raise CheckpointError(
            f'{folder}: this checkpoint is of a fit with other settings or data; delete the '
            'folder to start again, choose another output, or change back:'
            + _differences(state['identity'], identity)
        )
    heads.load_state_dict(load_file(folder / HEADS))
    rng.bit_generator.state = state['rng']
    _load_optimisers(load_file(folder / OPTIMISERS), optimisers)
    return int(state['epoch']), list(state['history'])


def _differences(there: str, now: str) -> str:
    """Return a line for each field of two identities that differs."""
    old, new = json.loads(there), json.loads(now)
    lines = []
    for field in sorted({*old, *new}):
        if old.get(field) != new.get(field):
            meaning = _FIELDS.get(field, field)
            lines.append(f'\n  {meaning}: {old.get(field)} there, {new.get(field)} now')
    return ''.join(lines)


def _old(folder: Path) -> Path:
    return folder.with_name(folder.name + '.old')


def _optimiser_tensors(optimisers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    """Return the optimisers' states as tensors named `run.parameter.name`."""
    return {
        f'{run}.{number}.{name}': torch.as_tensor(value).contiguous().clone()
        for run, optimiser in optimisers.items()
        for number, values in optimiser.state_dict()['state'].items()
        for name, value in values.items()
        if value is not None
    }


def _load_optimisers(tensors: Mapping[str, Tensor], optimisers: Mapping[str, Optimizer]) -> None:
    for run, optimiser in optimisers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f'{run}.'):
                number, name = key.removeprefix(f'{run}.').split('.')
                state.setdefault(int(number), {})[name] = value
        groups = optimiser.state_dict()['param_groups']
        optimiser.load_state_dict({'state': state, 'param_groups': groups})
