# SPDX-License-Identifier: Apache-2.0
"""Multiply-adds counted on the real modules equal those counted by hand."""

import pytest
import torch
from torch import nn

from step_ros.model.complexity import (
    as_in_the_papers,
    count_cost,
    count_head,
    full,
    on_meta,
    trainable_parameters,
)
from step_ros.model.heads.registry import create_head


def test_linear_layer_by_hand():
    cost = count_cost(on_meta(nn.Linear, 10, 7), torch.empty(3, 10, device='meta'))
    assert cost.linear * 1e9 == pytest.approx(3 * 10 * 7)
    assert cost.attention == 0


@pytest.mark.parametrize('block', ['attn', 'full'])
def test_step_by_hand(block):
    head = on_meta(
        create_head,
        'step',
        width=16,
        frames=4,
        tokens=5,
        classes=3,
        attention_heads=2,
        block=block,
    )
    cost = count_head(head, patches=5)
    length = 4 * 5 + 1
    linear = 4 * length * 16**2 + 16 * 3 + (8 * length * 16**2 if block == 'full' else 0)
    assert cost.linear * 1e9 == pytest.approx(linear)
    assert cost.attention * 1e9 == pytest.approx(2 * length**2 * 16)
    backbone = count_cost(on_meta(nn.Linear, 10, 7), torch.empty(3, 10, device='meta'))
    both = [cost, cost]
    assert full(backbone, both) * 1e9 == pytest.approx(210 + 2 * (linear + 2 * length**2 * 16))
    assert as_in_the_papers(backbone, both) * 1e9 == pytest.approx(
        210 + 2 * (linear + 4 * length**2 * 16)
    )


@pytest.mark.parametrize(
    ('name', 'tokens'), [('linear', 1), ('self-attention', 6), ('fusion-lstm', 1)]
)
def test_head_is_counted_on_the_tokens_it_consumes(name, tokens):
    head = on_meta(create_head, name, width=16, frames=4, tokens=5, classes=3)
    windows = torch.empty(1, 4, tokens, 16, device='meta')
    assert count_head(head, patches=5) == count_cost(head, windows)


def test_lstm_is_counted():
    head = on_meta(create_head, 'fusion-lstm', width=16, frames=4, tokens=5, classes=3)
    # In each frame, four gates multiply the input and the last state.
    assert count_head(head, patches=5).linear * 1e9 == pytest.approx(4 * 8 * 16**2 + 16 * 3)


def test_only_trainable_parameters_are_counted():
    layers = nn.ModuleList([nn.Linear(3, 2), nn.Linear(2, 2)])
    layers[0].requires_grad_(False)
    assert trainable_parameters(layers) == 6


def test_module_outside_the_meta_device_is_refused():
    with pytest.raises(ValueError, match='expected module and input on the meta device'):
        count_cost(nn.Linear(2, 2), torch.empty(1, 2))
