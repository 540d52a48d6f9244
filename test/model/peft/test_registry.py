# SPDX-License-Identifier: Apache-2.0
"""Adapters: their initialisation, their trainable parameters, and the frames they mix."""

import math

import pytest
import torch

from step_ros.model.backbone import create_backbone
from step_ros.model.peft.registry import (
    PEFT_METHODS,
    adapter_state,
    insert_adapters,
    load_adapter_state,
)

FRAMES = 3
NAMES = list(PEFT_METHODS)
TEMPORAL = [name for name, method in PEFT_METHODS.items() if method.temporal]
IMAGE = [name for name in NAMES if name not in TEMPORAL]
VARIANTS = [(name, {}) for name in NAMES]
VARIANTS += [(name, {'before_attention': True}) for name in TEMPORAL]
# These methods change no token at first; VPT's prompts are random.
NEUTRAL = [(name, options) for name, options in VARIANTS if not name.startswith('vpt')]
FAMILIES = ['plain', 'dinov2', 'clip', 'siglip', 'one block']


# ---- initialisation


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize(('name', 'options'), NEUTRAL)
def test_new_adapters_leave_every_token_unchanged(
    family, name, options, bare_backbone, adapted_backbone, random_images
):
    expected = bare_backbone(family=family).vit.forward_features(random_images(6))
    adapted = adapted_backbone(name, family=family, **options)
    assert torch.equal(adapted.vit.forward_features(random_images(6)), expected)


@pytest.mark.parametrize('deep', [True, False])
def test_prompts_start_uniformly_within_vpts_bound(deep, adapted_backbone):
    adapted = adapted_backbone('vpt-deep' if deep else 'vpt-shallow', prompts=500)
    bound = math.sqrt(6 / (3 * 16 * 16 + 32))
    states = adapter_state(adapted)
    assert list(states) == [f'blocks.{index}.prompts_pd' for index in range(2 if deep else 1)]
    for prompts in states.values():
        assert prompts.shape == (500, 32)
        assert 0.99 * bound < prompts.abs().max() <= bound
        assert prompts.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_first_layers_start_as_published(adapted_backbone):
    adaptformer, aim = adapted_backbone('adaptformer'), adapted_backbone('aim', bottleneck=512)
    down = adapter_state(adaptformer)['blocks.0.adapter.down.weight']
    assert 0.95 / math.sqrt(32) < down.abs().max() <= 1 / math.sqrt(32)
    for part in ('temporal', 'spatial', 'joint'):
        down = adapter_state(aim)[f'blocks.1.{part}.down.weight']
        assert down.std().item() == pytest.approx(0.02, rel=0.05)
    zero = [key for key, tensor in adapter_state(aim).items() if not tensor.any()]
    assert len(zero) == 1 + 2 * 3 * 3


# ---- training


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', NAMES)
def test_adapters_keep_the_number_of_tokens(
    family, name, bare_backbone, adapted_backbone, randomise, random_images
):
    expected = bare_backbone(family=family).vit.forward_features(random_images(6))
    adapted = randomise(adapted_backbone(name, family=family))
    found = adapted.vit.forward_features(random_images(6))
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert not torch.allclose(found, expected)


@pytest.mark.parametrize('family', ['dinov2', 'clip'])
@pytest.mark.parametrize(('name', 'options'), VARIANTS)
def test_only_the_inserted_parameters_train(
    family, name, options, bare_backbone, adapted_backbone, randomise, random_images, random_tokens
):
    original = {
        key: value.clone() for key, value in bare_backbone(family=family).named_parameters()
    }
    adapted = randomise(adapted_backbone(name, family=family, **options))
    before = adapter_state(adapted)
    trainable = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert len(trainable) == len(before) > 0
    optimiser = torch.optim.AdamW(adapted.parameters(), lr=0.01, weight_decay=0.1)
    patches = adapted(random_images(6))
    (patches * random_tokens(*patches.shape)).sum().backward()
    for parameter in trainable:
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    optimiser.step()
    after = adapter_state(adapted)
    assert all(not torch.equal(after[key], before[key]) for key in before)
    frozen = {key.replace('.frozen.', '.'): value for key, value in adapted.named_parameters()}
    assert len(frozen) == len(original) + len(before)
    for key, value in original.items():
        assert torch.equal(frozen[key], value)
        assert not frozen[key].requires_grad
        assert frozen[key].grad is None


def test_training_mode_reaches_adapters_only(randomise, random_images):
    arguments = {'embed_dim': 32, 'depth': 2, 'num_heads': 2}
    rates = {'proj_drop_rate': 0.5, 'attn_drop_rate': 0.5, 'drop_path_rate': 0.5}
    backbone = create_backbone(
        'vit_tiny_patch16_224',
        weights='random',
        image_size=(32, 48),
        arguments={**arguments, **rates},
    )
    adapted = randomise(insert_adapters(backbone, 'adaptformer', frames=1, dropout=0.5))
    x = random_images(2).float()
    in_evaluation = adapted(x)
    assert torch.equal(adapted(x), in_evaluation)
    adapted.train()
    for block in adapted.vit.blocks:
        assert block.adapter.dropout.training
        assert not any(module.training for module in block.frozen.modules())
    assert not torch.equal(adapted(x), in_evaluation)
    # Without the adapters' dropout, nothing in the frozen path is random.
    for block in adapted.vit.blocks:
        block.adapter.dropout.p = 0.0
    assert torch.equal(adapted(x), in_evaluation)
    adapted.eval()
    assert torch.equal(adapted(x), in_evaluation)


# ---- frames and windows


@pytest.mark.parametrize('name', IMAGE)
def test_image_methods_encode_each_frame_on_its_own(
    name, adapted_backbone, randomise, random_images
):
    adapted, x = randomise(adapted_backbone(name)), random_images(7)
    order = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    torch.testing.assert_close(adapted(x[order]), adapted(x)[order])
    torch.testing.assert_close(adapted(x[:1]), adapted(x)[:1])


@pytest.mark.parametrize('name', TEMPORAL)
def test_video_methods_see_the_order_of_frames(name, adapted_backbone, randomise, random_images):
    adapted, x = randomise(adapted_backbone(name)), random_images(FRAMES)
    reversed_back = adapted(x.flip(0)).flip(0)
    assert (reversed_back - adapted(x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ('name', 'options'), [variant for variant in VARIANTS if variant[0] in TEMPORAL]
)
def test_windows_of_a_batch_do_not_mix(name, options, adapted_backbone, randomise, random_images):
    adapted = randomise(adapted_backbone(name, **options))
    x = random_images(3 * FRAMES)
    changed = x.clone()
    changed[FRAMES : 2 * FRAMES] = random_images(FRAMES, seed=9)
    found, expected = adapted(changed), adapted(x)
    for window, same in ((0, True), (1, False), (2, True)):
        rows = slice(window * FRAMES, (window + 1) * FRAMES)
        assert torch.allclose(found[rows], expected[rows]) is same
        torch.testing.assert_close(adapted(x[rows]), expected[rows])


@pytest.mark.parametrize('name', TEMPORAL)
def test_incomplete_window_is_refused(name, adapted_backbone, random_images):
    adapted = adapted_backbone(name)
    with pytest.raises(ValueError, match=r'got 4 images; .* the 3 frames .* a multiple of 3'):
        adapted(random_images(4))


def test_deep_prompts_differ_from_shallow_ones(adapted_backbone, random_images):
    deep, shallow = adapted_backbone('vpt-deep'), adapted_backbone('vpt-shallow')
    same = {'blocks.0.prompts_pd': adapter_state(deep)['blocks.0.prompts_pd']}
    load_adapter_state(shallow, same)
    assert not torch.allclose(deep(random_images(2)), shallow(random_images(2)))
    # With a single block, deep and shallow prompts are the same.
    deep, shallow = (
        adapted_backbone(f'vpt-{kind}', family='one block') for kind in ('deep', 'shallow')
    )
    load_adapter_state(shallow, adapter_state(deep))
    assert torch.equal(deep(random_images(2)), shallow(random_images(2)))
