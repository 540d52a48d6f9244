# SPDX-License-Identifier: Apache-2.0
"""The backbone returns the right tokens and stays frozen."""

import re

import pytest
import torch
from torch import nn

from step_ros.model.backbone import Backbone, create_backbone
from step_ros.model.heads.step import StepHead
from step_ros.model.multitask import MultiTaskModel

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


# ---- architectures


@pytest.mark.parametrize(
    ('name', 'grid', 'width', 'depth', 'mean_std'),
    [
        ('vit_small_patch14_dinov2.lvd142m', (16, 16), 384, 12, IMAGENET),
        ('vit_base_patch14_dinov2.lvd142m', (16, 16), 768, 12, IMAGENET),
        ('vit_large_patch14_dinov2.lvd142m', (16, 16), 1024, 24, IMAGENET),
        ('vit_base_patch16_clip_224.openai', (14, 14), 768, 12, CLIP),
    ],
)
def test_papers_backbones_have_the_right_structure(name, grid, width, depth, mean_std):
    with torch.device('meta'):
        backbone = create_backbone(name, weights='random', image_size=(224, 224))
    assert backbone.grid_size == grid
    assert backbone.tokens == grid[0] * grid[1]
    assert backbone.image_size == (224, 224)
    assert backbone.width == width
    assert (backbone.mean, backbone.std) == mean_std
    assert backbone.has_cls
    assert backbone.name == name
    assert len(backbone.vit.blocks) == depth


@pytest.mark.parametrize(
    ('name', 'depth', 'tokens', 'prefix'),
    [
        ('vit_small_patch14_dinov2.lvd142m', 12, 256, 1),
        ('vit_base_patch14_dinov2.lvd142m', 1, 256, 1),
        ('vit_base_patch16_clip_224.openai', 1, 196, 1),
        ('vit_small_patch14_reg4_dinov2.lvd142m', 1, 256, 5),
    ],
)
def test_tokens_are_the_patches_after_the_final_norm(name, depth, tokens, prefix):
    backbone = create_backbone(
        name, weights='random', image_size=(224, 224), arguments={'depth': depth}
    )
    x_b3hw = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    patches_bnd = backbone(x_b3hw)
    cls_b1d = backbone.give('cls')(x_b3hw)
    assert patches_bnd.shape == (2, tokens, backbone.width)
    assert cls_b1d.shape == (2, 1, backbone.width)
    x_bld = backbone.vit.forward_features(x_b3hw)
    assert x_bld.shape[1] == prefix + tokens
    torch.testing.assert_close(patches_bnd, x_bld[:, prefix:])
    torch.testing.assert_close(cls_b1d, x_bld[:, :1])
    torch.testing.assert_close(backbone.give('all')(x_b3hw), torch.cat([cls_b1d, patches_bnd], 1))
    # A fresh layer norm leaves every token with mean 0 and variance 1.
    assert patches_bnd.mean(dim=-1).abs().max() < 1e-4
    assert (patches_bnd.var(dim=-1, unbiased=False) - 1).abs().max() < 1e-2


def test_default_image_size_is_that_of_the_architecture():
    backbone = create_backbone(
        'vit_tiny_patch16_224', weights='random', arguments={'embed_dim': 32, 'num_heads': 2}
    )
    assert backbone.image_size == (224, 224)


def test_architecture_without_cls_token_returns_patches():
    backbone = create_backbone(
        'vit_base_patch16_siglip_224',
        weights='random',
        image_size=(32, 48),
        arguments={'embed_dim': 32, 'depth': 1, 'num_heads': 2},
    )
    assert not backbone.has_cls
    assert backbone(torch.zeros(1, 3, 32, 48)).shape == (1, 6, 32)
    for kind in ('cls', 'all'):
        with pytest.raises(ValueError, match=r'siglip.*no CLS token'):
            backbone.give(kind)
    with pytest.raises(ValueError, match="tokens='frame': expected one of patches, cls, all"):
        backbone.give('frame')


def test_tokens_go_row_by_row_from_the_top_left(tiny_backbone):
    # Without blocks, a token depends on its own patch only.
    backbone = tiny_backbone(arguments={'depth': 0})
    plain = torch.zeros(1, 3, 32, 48)
    for row in range(2):
        for column in range(3):
            marked = plain.clone()
            marked[..., 16 * row + 5, 16 * column + 9] = 3.0
            changed = (backbone(marked) != backbone(plain))[0].any(dim=-1)
            assert changed.nonzero().flatten().tolist() == [3 * row + column]


@pytest.mark.parametrize(
    'name',
    [
        'no_such_backbone',
        'vit_small_patch14_dinov3.lvd142m',
        pytest.param('vit_tiny_patch16_224.no_such_weights', id='unknown pretrained tag'),
        '',
    ],
)
@pytest.mark.parametrize('weights', ['random', 'hub', 'file'])
def test_unknown_names_are_refused(name, weights, tiny_backbone, save_weights, tmp_path):
    if weights == 'file':
        weights = save_weights(tmp_path / 'w.safetensors', tiny_backbone())
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        create_backbone(name, weights=weights, image_size=(32, 48))


@pytest.mark.parametrize('name', ['resnet18', 'mobilenetv3_small_050', 'mixer_s16_224'])
def test_architecture_without_patch_tokens_is_refused(name):
    with pytest.raises(ValueError, match=f'{name}.*not a vision transformer'):
        create_backbone(name, weights='random')


def test_architecture_without_final_norm_is_refused(tiny_backbone):
    with pytest.raises(ValueError, match=r'vit_tiny_patch16_224.*no final norm'):
        tiny_backbone(arguments={'global_pool': 'avg'})


@pytest.mark.parametrize(
    'arguments', [{'colour': 'green'}, {'num_heads': 3}], ids=['unknown', 'not divisible']
)
def test_invalid_arguments_are_refused(arguments, tiny_backbone):
    with pytest.raises(ValueError, match='vit_tiny_patch16_224'):
        tiny_backbone(arguments=arguments)


@pytest.mark.usefixtures('hub_cache')
@pytest.mark.parametrize('argument', ['checkpoint_path', 'pretrained_cfg_overlay', 'pretrained'])
def test_arguments_cannot_load_other_weights(argument, tiny_backbone, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(tiny_backbone(seed=3).vit.state_dict(), path)
    value = {
        'checkpoint_path': str(path),
        'pretrained_cfg_overlay': {'file': str(path)},
        'pretrained': True,
    }[argument]
    with pytest.raises(ValueError, match=argument):
        tiny_backbone(arguments={argument: value})


@pytest.mark.parametrize('image_size', [(33, 48), (32, 50), (8, 48)])
def test_image_size_that_patches_do_not_fill_is_refused(image_size, tiny_backbone):
    with pytest.raises(ValueError, match=r'vit_tiny_patch16_224.*\b(33|50|8)\b'):
        tiny_backbone(image_size=image_size)


def test_custom_backbone_is_checked_too():
    with pytest.raises(ValueError, match=r"'mine' is not a vision transformer"):
        Backbone(nn.Linear(2, 2), name='mine', digest='random:0')


# ---- fewer tokens


@pytest.mark.parametrize('token_grid', [(1, 3), (2, 1), (1, 1)])
def test_patches_are_averaged_and_the_cls_token_is_not(token_grid, tiny_backbone):
    plain, backbone = tiny_backbone(), tiny_backbone(token_grid=token_grid)
    rows, columns = token_grid
    x_b3hw = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    blocks = plain(x_b3hw).view(2, rows, 2 // rows, columns, 3 // columns, -1)
    expected_bnd = blocks.mean(dim=(2, 4)).reshape(2, rows * columns, -1)
    torch.testing.assert_close(backbone(x_b3hw), expected_bnd)
    assert backbone.tokens == rows * columns
    assert (backbone.token_grid, backbone.coarser_grid) == (token_grid, token_grid)
    assert (backbone.grid_size, plain.coarser_grid) == ((2, 3), None)
    cls_b1d = plain.give('cls')(x_b3hw)
    assert torch.equal(backbone.give('cls')(x_b3hw), cls_b1d)
    torch.testing.assert_close(
        backbone.give('all')(x_b3hw), torch.cat([cls_b1d, expected_bnd], dim=1)
    )


def test_averaging_can_be_undone(tiny_backbone):
    backbone = tiny_backbone(token_grid=(1, 1)).average_onto((2, 3))
    x_b3hw = torch.randn(1, 3, 32, 48)
    assert torch.equal(backbone(x_b3hw), tiny_backbone()(x_b3hw))
    assert backbone.coarser_grid is None


def test_token_grid_that_does_not_divide_patches_is_refused(tiny_backbone):
    with pytest.raises(
        ValueError, match=r"'vit_tiny_patch16_224': token grid 2 x 2 does not .* 2 x 3 tokens"
    ):
        tiny_backbone(token_grid=(2, 2))


@pytest.mark.parametrize('kind', ['patches', 'all'])
def test_exported_backbone_averages_tokens_too(kind, tiny_backbone):
    backbone = tiny_backbone(token_grid=(2, 1)).give(kind)
    batch = torch.export.Dim('batch', min=1, max=16)
    example = (torch.randn(2, 3, 32, 48),)
    exported = torch.export.export(backbone, example, dynamic_shapes=({0: batch},)).module()
    x_b3hw = torch.randn(5, 3, 32, 48)
    torch.testing.assert_close(exported(x_b3hw), backbone(x_b3hw))


# ---- frozen


def test_backbone_has_no_trainable_parameter(tiny_backbone):
    backbone = tiny_backbone()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone(torch.zeros(1, 3, 32, 48)).requires_grad


def test_backbone_stays_in_evaluation_mode(tiny_backbone):
    backbone = tiny_backbone(arguments={'proj_drop_rate': 0.5, 'drop_path_rate': 0.5})
    model = MultiTaskModel(backbone, {'action': StepHead(width=32, frames=4, classes=2)})
    model.train()
    backbone.train()
    assert model.heads.training
    assert not any(module.training for module in backbone.modules())
    x_b3hw = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(backbone(x_b3hw), backbone(x_b3hw), rtol=0, atol=0)


def test_random_weights_depend_only_on_their_seed(tiny_backbone):
    torch.manual_seed(1)
    first = tiny_backbone(seed=0)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    torch.testing.assert_close(torch.rand(3), drawn)  # building left the global generator alone
    torch.manual_seed(2)
    again, other = tiny_backbone(seed=0), tiny_backbone(seed=1)
    x_b3hw = torch.randn(1, 3, 32, 48)
    assert torch.equal(first(x_b3hw), again(x_b3hw))
    assert not torch.allclose(first(x_b3hw), other(x_b3hw), atol=1e-2)
    assert (first.digest, other.digest) == ('random:0', 'random:1')
