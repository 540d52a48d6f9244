# SPDX-License-Identifier: Apache-2.0
"""Several tasks in one backbone pass."""

import pytest
import torch

from step_ros.model.heads.step import StepHead
from step_ros.model.multitask import MultiTaskModel


def _heads(*tasks):
    torch.manual_seed(0)
    return {
        task: StepHead(width=32, frames=4, classes=2 + index, attention_heads=2)
        for index, task in enumerate(tasks)
    }


@pytest.fixture
def clips():
    return torch.randn(3, 4, 3, 32, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('tasks', [('action',), ('action', 'verb', 'object', 'tool', 'place')])
def test_one_backbone_pass_for_any_number_of_heads(tasks, tiny_backbone, clips):
    model = MultiTaskModel(tiny_backbone(), _heads(*tasks))
    batches = []
    model.backbone.vit.blocks[0].register_forward_hook(
        lambda module, inputs, output: batches.append(len(output))
    )
    logits = model(clips)
    assert batches == [3 * 4]
    assert tuple(logits) == model.tasks == tasks
    assert [logits_bk.shape for logits_bk in logits.values()] == [
        (3, 2 + index) for index in range(len(tasks))
    ]


def test_model_equals_its_heads_one_by_one(tiny_backbone, clips):
    backbone, heads = tiny_backbone(), _heads('action', 'verb')
    model = MultiTaskModel(backbone, heads)
    logits = model(clips)
    # The model encodes all frames in one batch: each must return to its clip and place.
    x_btnd = torch.stack([torch.stack([backbone(frame[None])[0] for frame in c]) for c in clips])
    for task, head in heads.items():
        alone = MultiTaskModel(backbone, {task: head})(clips)
        torch.testing.assert_close(logits[task], alone[task])
        torch.testing.assert_close(logits[task], head(x_btnd), rtol=1e-4, atol=1e-5)
    predicted = model.predict(x_btnd)
    for task in heads:
        torch.testing.assert_close(predicted[task], logits[task], rtol=1e-4, atol=1e-5)


def test_heads_train_and_the_backbone_does_not(tiny_backbone, clips):
    model = MultiTaskModel(tiny_backbone(), _heads('action', 'verb')).train()
    sum(logits_bk.square().sum() for logits_bk in model(clips).values()).backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.heads.parameters())
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trainable == {f'heads.{name}' for name, _ in model.heads.named_parameters()}


def test_clip_gets_no_gradient(tiny_backbone, clips):
    clips.requires_grad_(True)
    model = MultiTaskModel(tiny_backbone(), _heads('action'))
    model(clips)['action'].sum().backward()
    assert clips.grad is None
