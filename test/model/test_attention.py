# SPDX-License-Identifier: Apache-2.0
"""Attention equals torch's, and attention maps are laid out like the patches."""

import pytest
import torch

from step_ros.model.attention import CrossAttention, SelfAttention
from step_ros.model.heads.registry import create_head

GIVEN = {'width': 12, 'frames': 3, 'tokens': 4, 'classes': 2, 'attention_heads': 2}


def window(tokens=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, tokens, 12, generator=generator, dtype=torch.float64)


def torchs_weights(module, x_bld):
    theirs = torch.nn.MultiheadAttention(12, 2, batch_first=True, dtype=torch.float64)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = (
        module.qkv.weight.data,
        module.qkv.bias.data,
    )
    return theirs(x_bld, x_bld, x_bld, need_weights=True)[1]


def test_row_weights_and_column_means_equal_torch():
    torch.manual_seed(0)
    module = SelfAttention(12, attention_heads=2).double()
    x_bld = window().flatten(1, 2)
    weights_bll = torchs_weights(module, x_bld)
    for row in (0, 5):
        torch.testing.assert_close(module.row_weights(x_bld, row), weights_bll[:, row])
    torch.testing.assert_close(module.column_means(x_bld), weights_bll.mean(dim=1))


def test_column_means_in_blocks_are_the_same():
    torch.manual_seed(0)
    module = SelfAttention(12, attention_heads=2).double()
    x_bld = window().flatten(1, 2)
    whole = module.column_means(x_bld)
    torch.testing.assert_close(module.column_means(x_bld, block_rows=5), whole)


def test_cross_attention_equals_torch():
    torch.manual_seed(0)
    ours = CrossAttention(12, attention_heads=2).double()
    theirs = torch.nn.MultiheadAttention(12, 2, batch_first=True, dtype=torch.float64)
    theirs.in_proj_weight.data = torch.cat([ours.query.weight.data, ours.kv.weight.data])
    theirs.in_proj_bias.data = torch.cat([ours.query.bias.data, ours.kv.bias.data])
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = (
        ours.out.weight.data,
        ours.out.bias.data,
    )
    x_bld = window().flatten(1, 2)
    query_bqd = torch.randn(2, 3, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(query_bqd, x_bld), theirs(query_bqd, x_bld, x_bld)[0])


@pytest.mark.parametrize('block', ['attn', 'attn+ln+skip', 'full'])
def test_maps_of_step_are_the_weights_on_its_patches(block):
    torch.manual_seed(0)
    head = create_head('step', **GIVEN, block=block).double()
    x_btnd = window()
    x_bld = head.sequence(x_btnd)
    if block != 'attn':
        x_bld = head.block.attention_norm(x_bld)
    weights_bll = torchs_weights(head.block.attention, x_bld)
    maps = head.attention_maps(x_btnd)
    torch.testing.assert_close(maps.cls_btn.flatten(1), weights_bll[:, 0, 1:])
    torch.testing.assert_close(maps.columns_btn.flatten(1), weights_bll.mean(dim=1)[:, 1:])
    rest_b = weights_bll[:, 0, 0]
    torch.testing.assert_close(maps.cls_btn.sum(dim=(1, 2)) + rest_b, torch.ones_like(rest_b))


def test_maps_leave_out_per_frame_cls_tokens():
    torch.manual_seed(0)
    head = create_head('self-attention', **GIVEN).double()
    x_btnd = window(tokens=5)
    weights_bll = torchs_weights(head.block.attention, x_btnd.flatten(1, 2))
    maps = head.attention_maps(x_btnd)
    assert maps.cls_btn is None
    expected_btn = weights_bll.mean(dim=1).reshape(2, 3, 5)[:, :, 1:]
    torch.testing.assert_close(maps.columns_btn, expected_btn)


def test_column_means_weigh_patches_in_the_pooled_mean():
    """With one attention head, mean_i(A_i V) = (mean_i A_i) V."""
    torch.manual_seed(0)
    head = create_head('step', **{**GIVEN, 'attention_heads': 1}).double()
    x_btnd = window()
    x_bld = head.sequence(x_btnd)
    values_bld = head.block.attention.qkv(x_bld)[..., 24:]
    columns_bl = head.block.attention.column_means(x_bld)
    pooled_bd = head.block.attention.out((columns_bl[..., None] * values_bld).sum(dim=1))
    torch.testing.assert_close(head.classifier(pooled_bd), head(x_btnd))
