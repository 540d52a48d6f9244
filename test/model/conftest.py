"""Fixtures for the tests of `step_ros.model`."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from step_ros.model.backbone import create_backbone
from step_ros.model.bundle import load_bundle
from step_ros.model.bundle_files import BundleError
from step_ros.model.peft import insert_adapters
from step_ros.model.weights import file_digest

TINY = 'vit_tiny_patch16_224'
ARGUMENTS = {'embed_dim': 32, 'depth': 1, 'num_heads': 2}
HEADS, BACKBONE, SPEC = 'heads.safetensors', 'backbone.safetensors', 'bundle.yaml'
# Kinds of backbones that adapters meet; test_peft.py goes through all of them.
FAMILIES = {
    'plain': {},
    'dinov2': {'init_values': 0.3, 'reg_tokens': 2},
    'clip': {'pre_norm': True},
    'siglip': {'class_token': False, 'global_pool': 'avg', 'fc_norm': False},
    'one block': {'depth': 1},
}


def _create_tiny_backbone(*, weights='random', arguments=None, **options):
    options = {'image_size': (32, 48), **options}
    return create_backbone(
        TINY, weights=weights, arguments={**ARGUMENTS, **(arguments or {})}, **options
    )


def _save_weights(path, backbone, *, without=()):
    save_file(
        {
            key: value.contiguous()
            for key, value in backbone.vit.state_dict().items()
            if not key.startswith(tuple(without))
        },
        path,
    )
    return path


class SavedBundle:
    """A bundle in its folder, to be edited or damaged."""

    def __init__(self, folder):
        self.folder = folder

    def edit(self, field, value):
        """Set a field of `bundle.yaml`, given as `tasks.0.name`; `...` takes it out."""
        path = self.folder / SPEC
        content = yaml.safe_load(path.read_text())
        *parents, last = (int(part) if part.isdigit() else part for part in field.split('.'))
        place = content
        for part in parents:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def write(self, name, data):
        """Write bytes into a weight file and correct its digest in `bundle.yaml`."""
        (self.folder / name).write_bytes(data)
        self._correct_digest(name)

    def edit_tensors(self, name, **changes):
        """Replace tensors of a weight file, `None` for taking one out; correct its digest."""
        tensors = load_file(self.folder / name) | changes
        save_file(
            {key: value for key, value in tensors.items() if value is not None},
            self.folder / name,
        )
        self._correct_digest(name)

    def _correct_digest(self, name):
        field = {HEADS: 'heads.digest', BACKBONE: 'backbone.digest'}[name]
        self.edit(field, file_digest(self.folder / name))

    def error(self):
        """Load the bundle and return the error."""
        with pytest.raises(BundleError) as caught:
            load_bundle(self.folder)
        return caught.value


def _create_bare_backbone(*, family='dinov2', depth=2):
    arguments = {'embed_dim': 32, 'depth': depth, 'num_heads': 2, **FAMILIES[family]}
    return create_backbone(
        'vit_tiny_patch16_224', weights='random', image_size=(32, 48), arguments=arguments
    ).double()


def _create_adapted_backbone(name, *, family='dinov2', frames=3, **options):
    return insert_adapters(_create_bare_backbone(family=family), name, frames=frames, **options)


def _randomise(backbone, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data += 0.3 * noise
    return backbone


def _draw_images(count, *, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 32, 48, generator=generator, dtype=torch.float64)


def _draw_tokens(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope='session')
def tiny_backbone():
    """Make a tiny backbone: `tiny_backbone(weights='random', arguments=..., **options)`."""
    return _create_tiny_backbone


@pytest.fixture(scope='session')
def save_weights():
    """Save a backbone's weights: `save_weights(path, backbone, without=prefixes of names)`."""
    return _save_weights


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Stand in for the network: nothing but an empty cache of the hub, offline."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    return tmp_path / 'hub'


@pytest.fixture(scope='session')
def bundle_at():
    """Edit or damage a bundle: `bundle_at(folder).edit('frames', 5)`."""
    return SavedBundle


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    """Copy `tiny_bundle`, to be edited or damaged: `copy.edit('frames', 5)`, `copy.error()`."""
    return SavedBundle(Path(shutil.copytree(tiny_bundle.path, tmp_path / 'copy')))


@pytest.fixture(scope='session')
def bare_backbone():
    """Make a tiny float64 backbone of 2 x 3 patches: `bare_backbone(family='dinov2', depth=2)`."""
    return _create_bare_backbone


@pytest.fixture(scope='session')
def adapted_backbone():
    """Make one with adapters: `adapted_backbone(name, family='dinov2', frames=3, **options)`."""
    return _create_adapted_backbone


@pytest.fixture(scope='session')
def randomise():
    """Leave the start behind, as training would: `randomise(backbone, seed=0)`."""
    return _randomise


@pytest.fixture(scope='session')
def random_images():
    """Draw images for `bare_backbone`: `random_images(count, seed=1)`."""
    return _draw_images


@pytest.fixture(scope='session')
def random_tokens():
    """Draw tokens in float64: `random_tokens(*shape, seed=2)`."""
    return _draw_tokens
