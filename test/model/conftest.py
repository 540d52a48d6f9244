"""Fixtures for the tests of `step_ros.model`."""

import pytest
from safetensors.torch import save_file

from step_ros.model.backbone import create_backbone

TINY = 'vit_tiny_patch16_224'
ARGUMENTS = {'embed_dim': 32, 'depth': 1, 'num_heads': 2}


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


@pytest.fixture(scope='session')
def tiny_backbone():
    """Make a tiny backbone: `tiny_backbone(weights='random', arguments=..., **options)`."""
    return _create_tiny_backbone


@pytest.fixture(scope='session')
def save_weights():
    """Save a backbone's weights: `save_weights(path, backbone, without=prefixes of names)`."""
    return _save_weights
