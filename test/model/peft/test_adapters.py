# SPDX-License-Identifier: Apache-2.0
"""Adapters: one block of each method equals a computation by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from step_ros.model.peft.registry import adapter_state

FRAMES = 3


def layer_norm(layer, x):
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + layer.eps).sqrt() * layer.weight + layer.bias


def linear(layer, x):
    return torch.einsum('...i,oi->...o', x, layer.weight) + layer.bias


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def attention(layer, x):
    q, k, v = linear(layer.qkv, x).chunk(3, dim=-1)
    heads = []
    for q_h, k_h, v_h in zip(q.split(16, -1), k.split(16, -1), v.split(16, -1), strict=True):
        heads.append((q_h @ k_h.mT / math.sqrt(16)).softmax(-1) @ v_h)
    return linear(layer.proj, torch.cat(heads, -1))


def attended(block, x):
    return block.ls1.gamma * attention(block.attn, layer_norm(block.norm1, x))


def fed_forward(block, x):
    inside = gelu(linear(block.mlp.fc1, layer_norm(block.norm2, x)))
    return block.ls2.gamma * linear(block.mlp.fc2, inside)


def plain_block(block, x):
    x = x + attended(block, x)
    return x + fed_forward(block, x)


@pytest.fixture
def frozen_block(bare_backbone):
    return bare_backbone().vit.blocks[0]


def test_plain_block_by_hand_equals_timm(frozen_block, random_tokens):
    block, x = frozen_block, random_tokens(6, 9, 32)
    torch.testing.assert_close(plain_block(block, x), block(x), rtol=1e-12, atol=1e-12)


@pytest.fixture
def check_block(frozen_block, random_tokens):
    """Return a check of the first block against `compute(frozen block, tensors, tokens)`."""

    def check(adapted, compute):
        found = adapted.vit.blocks[0]
        own = {
            name.removeprefix('blocks.0.'): tensor
            for name, tensor in adapter_state(adapted).items()
        }
        x = random_tokens(2 * FRAMES, 3 + 6, 32)
        expected = compute(frozen_block, own, x)
        torch.testing.assert_close(found(x), expected, rtol=1e-11, atol=1e-11)

    return check


def part(own, name):
    weight, bias = own[f'{name}.weight'], own[f'{name}.bias']
    return SimpleNamespace(weight=weight, bias=bias)


def bottleneck(own, name, x, activation):
    return linear(part(own, f'{name}.up'), activation(linear(part(own, f'{name}.down'), x)))


def test_vpt_by_hand(adapted_backbone, randomise, check_block):
    def prompted(block, own, x):
        prompts = own['prompts_pd'][None].repeat(len(x), 1, 1)
        return plain_block(block, torch.cat([x[:, :3], prompts, x[:, 3:]], 1))

    def deep(block, own, x):
        y = prompted(block, own, x)
        return torch.stack([y[:, index] for index in range(9 + 4) if index not in range(3, 7)], 1)

    check_block(randomise(adapted_backbone('vpt-shallow', prompts=4)), prompted)
    check_block(randomise(adapted_backbone('vpt-deep', prompts=4)), deep)


def test_adaptformer_by_hand(adapted_backbone, randomise, check_block):
    def compute(block, own, x):
        x = x + attended(block, x)
        beside = 0.25 * bottleneck(own, 'adapter', x, lambda value: value.clamp(min=0))
        return x + fed_forward(block, x) + beside

    check_block(randomise(adapted_backbone('adaptformer', bottleneck=5, scale=0.25)), compute)


@pytest.mark.parametrize('before_attention', [False, True])
def test_st_adapter_by_hand(before_attention, adapted_backbone, randomise, check_block):
    def mixed(own, name, x):
        inside = linear(part(own, f'{name}.down'), x)
        kernel, bias = (own[f'{name}.convolution.{kind}'] for kind in ('weight', 'bias'))
        out = x.clone()
        for image in range(len(x)):
            window = image // FRAMES
            total = bias
            for tap, shift in enumerate((-1, 0, 1)):
                other = image + shift
                if 0 <= other < len(x) and other // FRAMES == window:
                    total = total + kernel[:, 0, tap, 0, 0] * inside[other]
            out[image, 3:] += linear(part(own, f'{name}.up'), total.expand_as(inside[0]))[3:]
        return out

    def compute(block, own, x):
        if before_attention:
            x = mixed(own, 'before_attention', x)
        x = mixed(own, 'before_mlp', x + attended(block, x))
        return x + fed_forward(block, x)

    options = {'bottleneck': 5, 'before_attention': before_attention}
    check_block(randomise(adapted_backbone('st-adapter', **options)), compute)


@pytest.mark.parametrize('before_attention', [False, True])
def test_aim_by_hand(before_attention, adapted_backbone, randomise, check_block):
    def over_time(block, own, x):
        normed = layer_norm(block.norm1, x)
        if before_attention:
            normed = normed + bottleneck(own, 'before_attention', normed, gelu)
        out = torch.empty_like(x)
        for start in range(0, len(x), FRAMES):
            for position in range(x.shape[1]):
                frames = normed[start : start + FRAMES, position]
                seen = block.ls1.gamma * attention(block.attn, frames)
                changed = bottleneck(own, 'temporal', seen, gelu)
                out[start : start + FRAMES, position] = changed
        return out

    def compute(block, own, x):
        x = x + over_time(block, own, x)
        seen = attended(block, x)
        x = x + seen + bottleneck(own, 'spatial', seen, gelu)
        beside = 0.25 * bottleneck(own, 'joint', layer_norm(block.norm2, x), gelu)
        return x + fed_forward(block, x) + beside

    options = {'bottleneck': 5, 'scale': 0.25, 'before_attention': before_attention}
    check_block(randomise(adapted_backbone('aim', **options)), compute)


@pytest.mark.parametrize('family', ['dinov2', 'clip'])
def test_aim_adds_positions_once_to_all_tokens_of_a_frame(
    family, bare_backbone, adapted_backbone, randomise, random_tokens
):
    adapted, vit = (
        randomise(adapted_backbone('aim', family=family)),
        bare_backbone(family=family).vit,
    )
    x = random_tokens(2 * FRAMES, 9, 32)
    positions = adapter_state(adapted)['norm_pre.positions_td']
    expected = torch.stack([x[image] + positions[image % FRAMES] for image in range(len(x))])
    if family == 'clip':
        expected = layer_norm(vit.norm_pre, expected)
    torch.testing.assert_close(adapted.vit.norm_pre(x), expected)
