# SPDX-License-Identifier: Apache-2.0
"""States of adapters: saved and loaded again, and refused if damaged."""

import math
import re

import pytest
import torch
from safetensors.torch import load, save

from step_ros.model.peft.registry import PEFT_METHODS, adapter_state, load_adapter_state

NAMES = list(PEFT_METHODS)
TEMPORAL = [name for name, method in PEFT_METHODS.items() if method.temporal]
VARIANTS = [(name, {}) for name in NAMES]
VARIANTS += [(name, {'before_attention': True}) for name in TEMPORAL]


@pytest.mark.parametrize(('name', 'options'), VARIANTS)
def test_saved_state_restores_the_adapters(
    name, options, adapted_backbone, randomise, random_images
):
    adapted = randomise(adapted_backbone(name, **options))
    state = adapter_state(adapted)
    fresh = adapted_backbone(name, **options)
    assert not torch.allclose(fresh(random_images(3)), adapted(random_images(3)))
    load_adapter_state(fresh, load(save(state)))
    assert torch.equal(fresh(random_images(3)), adapted(random_images(3)))
    assert all(not value.requires_grad for value in state.values())
    # A state is a copy, and holds frozen adapters too.
    fresh.requires_grad_(False)
    assert adapter_state(fresh).keys() == state.keys()
    for value in state.values():
        value.zero_()
    torch.testing.assert_close(fresh(random_images(3)), adapted(random_images(3)))


def test_state_names_the_inserted_parameters(bare_backbone, adapted_backbone):
    assert list(adapter_state(adapted_backbone('vpt-deep'))) == [
        'blocks.0.prompts_pd',
        'blocks.1.prompts_pd',
    ]
    parts = ('down.weight', 'down.bias', 'up.weight', 'up.bias')
    assert [
        name
        for name in adapter_state(adapted_backbone('adaptformer'))
        if name.startswith('blocks.1')
    ] == [f'blocks.1.adapter.{part}' for part in parts]
    assert set(adapter_state(adapted_backbone('st-adapter', family='one block'))) == {
        f'blocks.0.before_mlp.{part}'
        for part in (*parts, 'convolution.weight', 'convolution.bias')
    }
    assert set(adapter_state(adapted_backbone('aim', family='one block'))) == {
        'norm_pre.positions_td',
        *(f'blocks.0.{one}.{part}' for one in ('temporal', 'spatial', 'joint') for part in parts),
    }
    assert adapter_state(bare_backbone()) == {}


UP = 'blocks.0.adapter.up.weight'


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda state: state.pop(UP), f"'{UP}' is missing"),
        (lambda state: state.update(stranger=torch.zeros(1)), "'stranger' is unexpected"),
        (
            lambda state: state.update({UP: state[UP][:, :3]}),
            f"'{UP}' has shape [32, 3], expected [32, 64]",
        ),
        (
            lambda state: state[UP].view(-1)[5:6].fill_(math.nan),
            f"'{UP}' has values that are not finite",
        ),
    ],
)
def test_damaged_state_is_refused_and_changes_nothing(
    damage, message, adapted_backbone, randomise
):
    adapted = adapted_backbone('adaptformer')
    before = adapter_state(adapted)
    state = adapter_state(randomise(adapted_backbone('adaptformer')))
    damage(state)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_adapter_state(adapted, state)
    assert all(torch.equal(value, before[key]) for key, value in adapter_state(adapted).items())


def test_state_of_another_method_is_refused(bare_backbone, adapted_backbone):
    with pytest.raises(ValueError, match=r"'blocks\.0\..*' is (missing|unexpected)"):
        load_adapter_state(adapted_backbone('aim'), adapter_state(adapted_backbone('st-adapter')))
    with pytest.raises(ValueError, match=r"'blocks\.0\.adapter\.down\.bias' is unexpected"):
        load_adapter_state(bare_backbone(), adapter_state(adapted_backbone('adaptformer')))
