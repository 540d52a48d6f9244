# SPDX-License-Identifier: Apache-2.0
"""Weights from files and from the hub: damaged or unrequested weights are refused."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from step_ros.model.backbone import create_backbone
from step_ros.model.weights import WeightsError, file_digest


class Payload:
    """An object that creates a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


# ---- weights from a file


def test_saved_backbone_gives_equal_tokens(tiny_backbone, save_weights, tmp_path):
    backbone = tiny_backbone(seed=3)
    path = save_weights(tmp_path / 'weights.safetensors', backbone)
    digest = file_digest(path)
    x_b3hw = torch.randn(2, 3, 32, 48)
    for weights in (path, str(path)):
        loaded = tiny_backbone(weights=weights, digest=digest)
        assert torch.equal(loaded(x_b3hw), backbone(x_b3hw))
        assert loaded.digest == digest
        assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_classifier_in_the_weights_is_dropped(tiny_backbone, tmp_path):
    backbone = tiny_backbone(seed=3)
    classifier = {'head.weight': torch.ones(1000, 32), 'head.bias': torch.ones(1000)}
    path = tmp_path / 'weights.safetensors'
    save_file({**backbone.vit.state_dict(), **classifier}, path)
    x_b3hw = torch.randn(2, 3, 32, 48)
    assert torch.equal(tiny_backbone(weights=path)(x_b3hw), backbone(x_b3hw))


def test_file_digest_is_the_sha256_of_the_bytes(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'abc')
    assert file_digest(path) == (
        'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    )
    path.write_bytes(bytes(2_500_000))
    assert file_digest(path) == (
        'sha256:382ec408afd51de29f84bd9d5b43cdfebe2f89532950e0259fdfb2271894b6de'
    )


def _resampled(positions_1ld, old, new):
    """Resample positional embeddings bicubically, except that of the CLS token."""
    cls_11d, grid_1nd = positions_1ld[:, :1], positions_1ld[:, 1:]
    grid = grid_1nd.reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=new, mode='bicubic', antialias=True)
    return torch.cat([cls_11d, grid.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1)], dim=1)


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ((64, 64), (128, 128)),
        ((128, 128), (64, 64)),
        ((64, 64), (32, 96)),
    ],
)
def test_positions_are_resampled_to_the_image_size(
    old, new, tiny_backbone, save_weights, tmp_path
):
    saved = tiny_backbone(image_size=old)
    path = save_weights(tmp_path / 'weights.safetensors', saved)
    loaded = tiny_backbone(weights=path, image_size=new)
    old_grid, new_grid = (tuple(side // 16 for side in size) for size in (old, new))
    assert loaded.image_size == new
    assert loaded.grid_size == new_grid
    assert loaded(torch.zeros(1, 3, *new)).shape == (1, new_grid[0] * new_grid[1], 32)
    torch.testing.assert_close(
        loaded.vit.pos_embed, _resampled(saved.vit.pos_embed, old_grid, new_grid)
    )


def test_unknown_grid_of_positions_is_refused(tiny_backbone, save_weights, tmp_path):
    # Six tokens are no square, and the file does not say whether the grid was 2 x 3 or 3 x 2.
    path = save_weights(tmp_path / 'weights.safetensors', tiny_backbone(image_size=(32, 48)))
    with pytest.raises(WeightsError, match=rf'{re.escape(str(path))}.*do not fit'):
        tiny_backbone(weights=path, image_size=(64, 96))


@pytest.mark.parametrize('image_size', [(32, 48), (64, 64), (32, 128), (144, 256)])
def test_positions_stay_unchanged_at_the_same_size(
    image_size, tiny_backbone, save_weights, tmp_path
):
    saved = tiny_backbone(image_size=image_size)
    path = save_weights(tmp_path / 'weights.safetensors', saved)
    loaded = tiny_backbone(weights=path, image_size=image_size)
    assert torch.equal(loaded.vit.pos_embed, saved.vit.pos_embed)


# ---- refused files


@pytest.mark.parametrize('name', ['nowhere.safetensors', 'Random', 'RANDOM', 'none', 'hub.pth'])
def test_unknown_weights_are_refused(name, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=rf'{re.escape(name)}.*do not exist'):
        tiny_backbone(weights=name)


def test_folder_in_place_of_weights_is_refused(tiny_backbone, tmp_path):
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path))):
        tiny_backbone(weights=tmp_path)


@pytest.mark.parametrize('suffix', ['.pth', '.pt', '.bin', '.pkl', '.npz', ''])
def test_pickled_weights_are_refused(suffix, tiny_backbone, tmp_path):
    path = tmp_path / f'weights{suffix}'
    torch.save(tiny_backbone().vit.state_dict(), path)
    with pytest.raises(WeightsError, match=rf'{re.escape(str(path))}.*not a \.safetensors file'):
        tiny_backbone(weights=path)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_nothing_is_unpickled(suffix, tiny_backbone, tmp_path):
    trace = tmp_path / 'unpickled'
    path = tmp_path / f'weights{suffix}'
    path.write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        tiny_backbone(weights=path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # the file was able to run code


@pytest.mark.parametrize(
    'damage',
    [
        pytest.param(lambda data: b'', id='empty'),
        pytest.param(lambda data: data[:5], id='header cut'),
        pytest.param(lambda data: data[:-100], id='truncated'),
        pytest.param(lambda data: data + b'more', id='lengthened'),
        pytest.param(lambda data: data[:8] + b'?' + data[9:], id='header broken'),
    ],
)
def test_damaged_file_is_refused(damage, tiny_backbone, save_weights, tmp_path):
    path = save_weights(tmp_path / 'weights.safetensors', tiny_backbone())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match=rf'{re.escape(str(path))} are damaged: \w+'):
        tiny_backbone(weights=path)


def test_wrong_digest_is_refused(tiny_backbone, save_weights, tmp_path):
    path = save_weights(tmp_path / 'weights.safetensors', tiny_backbone())
    expected = 'sha256:' + 64 * '0'
    with pytest.raises(WeightsError) as caught:
        tiny_backbone(weights=path, digest=expected)
    for part in (str(path), file_digest(path), expected):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    'others',
    [
        pytest.param({'depth': 2}, id='one block missing'),
        pytest.param({'embed_dim': 48}, id='another width'),
        pytest.param({'init_values': 1e-5}, id='no layer scale'),
        pytest.param({'qkv_bias': False}, id='extra biases'),
        pytest.param({'class_token': False, 'global_pool': 'avg', 'fc_norm': False}, id='no CLS'),
    ],
)
def test_weights_of_another_architecture_are_refused(
    others, tiny_backbone, save_weights, tmp_path
):
    path = save_weights(tmp_path / 'weights.safetensors', tiny_backbone())
    with pytest.raises(WeightsError, match=rf'{re.escape(str(path))}.*do not fit'):
        tiny_backbone(weights=path, arguments=others)


@pytest.mark.parametrize('missing', ['norm.', 'blocks.0.attn', 'cls_token', 'patch_embed', ''])
@pytest.mark.parametrize(
    'name',
    ['vit_tiny_patch16_224', 'vit_base_patch16_clip_224.openai', 'vit_small_patch14_dinov2'],
)
def test_incomplete_weights_are_refused(name, missing, save_weights, tmp_path):
    arguments = {'embed_dim': 32, 'depth': 1, 'num_heads': 2}
    backbone = create_backbone(name, weights='random', image_size=(112, 112), arguments=arguments)
    path = save_weights(tmp_path / 'weights.safetensors', backbone, without=[missing])
    with pytest.raises(WeightsError, match=rf'{re.escape(str(path))}.*do not fit'):
        create_backbone(name, weights=path, image_size=(112, 112), arguments=arguments)


def test_weights_of_another_model_are_refused(tiny_backbone, tmp_path):
    path = tmp_path / 'weights.safetensors'
    save_file({'action.cls_d': torch.zeros(32)}, path)
    with pytest.raises(WeightsError, match=rf'{re.escape(str(path))}.*do not fit'):
        tiny_backbone(weights=path)


# ---- weights from the hub


def _snapshot(hub_cache, repository):
    """Return the folder of a repository's files in the cache of the hub."""
    folder = hub_cache / ('models--' + repository.replace('/', '--'))
    (folder / 'refs').mkdir(parents=True)
    (folder / 'refs' / 'main').write_text('a' * 40)
    snapshot = folder / 'snapshots' / ('a' * 40)
    snapshot.mkdir(parents=True)
    return snapshot


@pytest.mark.parametrize(
    'name', ['vit_small_patch14_dinov2.lvd142m', 'vit_base_patch16_clip_224.openai']
)
def test_unreachable_hub_is_an_error(name, hub_cache):
    with pytest.raises(WeightsError) as caught:
        create_backbone(name, weights='hub', image_size=(224, 224))
    for part in (name, f'timm/{name}', 'give the path of model.safetensors'):
        assert part in str(caught.value)
    assert not hub_cache.exists()


def test_name_without_weights_on_the_hub_is_an_error(hub_cache):
    with pytest.raises(WeightsError, match=r'vit_large_patch14_224.*safetensors'):
        create_backbone('vit_large_patch14_224', weights='hub', arguments={'depth': 1})


REPOSITORY = 'timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k'


def test_hub_weights_come_from_its_safetensors_file(hub_cache, tiny_backbone, save_weights):
    saved = tiny_backbone(seed=5)
    path = save_weights(_snapshot(hub_cache, REPOSITORY) / 'model.safetensors', saved)
    loaded = tiny_backbone(weights='hub', digest=file_digest(path))
    x_b3hw = torch.randn(1, 3, 32, 48)
    assert torch.equal(loaded(x_b3hw), saved(x_b3hw))
    assert loaded.digest == file_digest(path)
    with pytest.raises(WeightsError, match='digest'):
        tiny_backbone(weights='hub', digest='sha256:' + 64 * '0')


@pytest.mark.parametrize('image_size', [(112, 448), (64, 96)])
def test_hub_positions_are_resampled_from_their_own_grid(
    image_size, hub_cache, tiny_backbone, save_weights
):
    # timm's entry says 14 x 14 patches; 7 x 28 are as many patches in another shape.
    saved = tiny_backbone(image_size=(224, 224))
    save_weights(_snapshot(hub_cache, REPOSITORY) / 'model.safetensors', saved)
    loaded = tiny_backbone(weights='hub', image_size=image_size)
    torch.testing.assert_close(
        loaded.vit.pos_embed, _resampled(saved.vit.pos_embed, (14, 14), loaded.grid_size)
    )


def test_pickled_hub_weights_are_ignored(hub_cache, tiny_backbone):
    state = tiny_backbone().vit.state_dict()
    torch.save(state, _snapshot(hub_cache, REPOSITORY) / 'pytorch_model.bin')
    with pytest.raises(WeightsError, match=f'could not be downloaded from {REPOSITORY}'):
        tiny_backbone(weights='hub')


def test_git_lfs_pointer_is_refused_with_the_mend(tiny_backbone, tmp_path):
    path = tmp_path / 'weights.safetensors'
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n')
    with pytest.raises(WeightsError, match=r'Git LFS pointer.*`git lfs pull`'):
        tiny_backbone(weights=path)
