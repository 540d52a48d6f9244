# SPDX-License-Identifier: Apache-2.0
"""Inserting adapters: parameter counts, the registry, and refused requests."""

import math
import re

import pytest
import torch
from torch import nn

from step_ros.model.backbone import create_backbone
from step_ros.model.peft.registry import PEFT_METHODS, adapter_state, insert_adapters

FRAMES = 3
NAMES = list(PEFT_METHODS)
TEMPORAL = [name for name, method in PEFT_METHODS.items() if method.temporal]


# ---- parameter counts


def count(name, *, architecture='vit_base_patch14_dinov2.lvd142m', **options):
    with torch.device('meta'):
        backbone = create_backbone(architecture, weights='random', image_size=(224, 224))
    insert_adapters(backbone, name, frames=16, **options)
    return sum(value.numel() for value in backbone.parameters() if value.requires_grad)


@pytest.mark.parametrize(
    ('name', 'options', 'expected'),
    [
        # 12 blocks of 8 prompts of 768 channels.
        ('vpt-deep', {}, 12 * 8 * 768),
        ('vpt-shallow', {}, 8 * 768),
        # 768 x 64 + 64 down, 64 x 768 + 768 up.
        ('adaptformer', {}, 12 * (49_216 + 49_920)),
        # 768 x 384 + 384 down, 384 x 3 + 384 over time, 384 x 768 + 768 up: the papers' 7.1 M.
        ('st-adapter', {}, 12 * (295_296 + 1_536 + 295_680)),
        ('st-adapter', {'before_attention': True}, 24 * (295_296 + 1_536 + 295_680)),
        # Three adapters of 768 x 192 + 192 down, 192 x 768 + 768 up; 16 temporal embeddings: the
        # papers' 11 M. With a fourth, 14.2 M: near their 14.3 and 14.4 M with a classifier.
        ('aim', {}, 12 * 3 * (147_648 + 148_224) + 16 * 768),
        ('aim', {'before_attention': True}, 12 * 4 * (147_648 + 148_224) + 16 * 768),
    ],
)
@pytest.mark.parametrize(
    'architecture', ['vit_base_patch14_dinov2.lvd142m', 'vit_base_patch16_clip_224.openai']
)
def test_parameter_counts_of_vit_b(name, options, expected, architecture):
    assert count(name, architecture=architecture, **options) == expected


def test_parameter_counts_of_the_papers():
    assert 7.05e6 < count('st-adapter') == 7_110_144 < 7.15e6
    assert count('aim') == 10_663_680
    assert count('adaptformer') == 1_189_632
    assert count('vpt-deep') == 73_728


# ---- insertion


def test_registry_lists_methods_and_defaults():
    assert NAMES == ['vpt-deep', 'vpt-shallow', 'adaptformer', 'st-adapter', 'aim']
    assert TEMPORAL == ['st-adapter', 'aim']
    defaults = {
        name: {key: option.default for key, option in method.options.items()}
        for name, method in PEFT_METHODS.items()
    }
    assert defaults == {
        'vpt-deep': {'prompts': 8},
        'vpt-shallow': {'prompts': 8},
        'adaptformer': {'bottleneck': 64, 'dropout': 0.1, 'scale': 0.1},
        'st-adapter': {'bottleneck': 384, 'before_attention': False},
        'aim': {'bottleneck': 192, 'scale': 0.5, 'before_attention': False},
    }
    for name, method in PEFT_METHODS.items():
        assert method.name == name
        assert '20' in method.source
        assert all(option.accepts(option.default) for option in method.options.values())


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_adapters_have_the_dtype_of_the_backbone(dtype, bare_backbone, random_images):
    backbone = bare_backbone().to(dtype)
    assert insert_adapters(backbone, 'aim', frames=1) is backbone
    assert {value.dtype for value in adapter_state(backbone).values()} == {dtype}
    assert backbone(random_images(1).to(dtype)).dtype == dtype
    assert not any(module.training for module in backbone.modules())


def test_trainable_backbone_is_frozen(bare_backbone):
    backbone = bare_backbone().requires_grad_(True)
    insert_adapters(backbone, 'vpt-shallow', frames=1)
    trainable = [value for value in backbone.parameters() if value.requires_grad]
    assert [value.shape for value in trainable] == [(8, 32)]


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        (
            'lora',
            {},
            "adapters 'lora' are unknown; known: vpt-deep, vpt-shallow, adaptformer, st-adapter, "
            'aim',
        ),
        (
            'adaptformer',
            {'prompts': 3},
            "adapters 'adaptformer' have no option 'prompts'; options and defaults: "
            'bottleneck=64, dropout=0.1, scale=0.1',
        ),
        ('vpt-deep', {'prompts': 0}, "'vpt-deep': prompts=0; expected an integer of at least 1"),
        ('vpt-shallow', {'prompts': 2.0}, 'prompts=2.0; expected an integer'),
        ('vpt-shallow', {'prompts': True}, 'prompts=True; expected an integer'),
        ('st-adapter', {'bottleneck': -1}, 'bottleneck=-1; expected an integer of at least 1'),
        ('st-adapter', {'before_attention': 1}, 'before_attention=1; expected true or false'),
        ('aim', {'bottleneck': '192'}, "bottleneck='192'; expected an integer of at least 1"),
        ('aim', {'scale': math.nan}, 'scale=nan; expected a finite number other than 0'),
        ('aim', {'scale': 0}, 'scale=0; expected a finite number other than 0'),
        ('adaptformer', {'dropout': 1}, 'dropout=1; expected a number from 0 to below 1'),
        ('adaptformer', {'dropout': None}, 'dropout=None; expected a number'),
        ('vpt-deep', {'frames': 0}, "'vpt-deep': frames=0; expected an integer of at least 1"),
        ('st-adapter', {'frames': 1.5}, "'st-adapter': frames=1.5; expected an integer"),
    ],
)
def test_invalid_request_is_refused_and_changes_nothing(name, options, message, bare_backbone):
    backbone = bare_backbone()
    with pytest.raises(ValueError, match=re.escape(message)):
        insert_adapters(backbone, name, **{'frames': FRAMES, **options})
    assert adapter_state(backbone) == {}


@pytest.mark.parametrize('first', NAMES)
def test_second_insertion_is_refused(first, adapted_backbone):
    adapted = adapted_backbone(first)
    state = adapter_state(adapted)
    with pytest.raises(ValueError, match=r"'vit_tiny_patch16_224' has adapters already"):
        insert_adapters(adapted, 'vpt-shallow', frames=FRAMES)
    assert adapter_state(adapted).keys() == state.keys()


@pytest.mark.parametrize(
    ('architecture', 'arguments', 'kind'),
    [
        ('vit_small_patch16_dinov3', {}, 'eva.EvaBlock'),
        ('vit_base_patch16_rpn_224', {'fc_norm': False}, 'vision_transformer.ResPostBlock'),
        ('beit_base_patch16_224', {'global_pool': 'token'}, 'beit.Block'),
    ],
)
def test_other_architectures_are_refused(architecture, arguments, kind):
    with torch.device('meta'):
        backbone = create_backbone(architecture, weights='random', arguments=arguments)
    with pytest.raises(ValueError, match=rf"made of {kind}, not of timm's vision_tr") as info:
        insert_adapters(backbone, 'adaptformer', frames=1)
    for word in (architecture, 'DINOv2', 'CLIP', 'DINOv3', 'do not work'):
        assert word in str(info.value)


def test_model_without_blocks_is_refused(bare_backbone):
    backbone = bare_backbone()
    backbone.vit = nn.Identity()
    with pytest.raises(ValueError, match=r'is made of linear\.Identity, not of'):
        insert_adapters(backbone, 'adaptformer', frames=1)
