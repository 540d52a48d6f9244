# SPDX-License-Identifier: Apache-2.0
"""Every head learns: a few steps on the tabletop's tokens lower its loss."""

import pytest
import torch
from torch.nn import functional as F

from step_ros.encoders.base import TorchEncoder
from step_ros.model.bundle import load_bundle
from step_ros.model.heads.registry import HEADS, create_head
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.peft.registry import PEFT_METHODS, insert_adapters
from step_ros.resources import find_bundle
from step_ros.streaming.grid import NANOSECONDS, grid_indices
from step_ros.tabletop.simulator import TASKS, render_clip

pytestmark = pytest.mark.slow

ACTIONS = ('pick up cup', 'lay down cup', 'open drawer', 'close drawer', 'wave', 'idle')
FRAMES = 8
VARIANTS = [
    *((name, {}) for name in HEADS),
    *(('step', {'block': block}) for block in ('attn+ln+skip', 'full')),
    *(('step', {'positions': kind}) for kind in ('fixed', 'hybrid', 'token-wise', 'after')),
    *(('step', {'pooling': pooling}) for pooling in ('cls', 'patches')),
    ('step', {'classifier': 'mlp'}),
    ('attentive', {'positions': 'learnable'}),
    ('self-attention', {'positions': 'learnable'}),
]


@pytest.fixture(scope='module')
def backbone():
    return load_bundle(find_bundle('tabletop-tiny')).model.backbone


@pytest.fixture(scope='module')
def windows():
    """One window of each action, uint8 images `[b][t]`."""
    found = []
    for seed, action in enumerate(ACTIONS):
        clip = render_clip(action, seed=seed, split='val', size=(160, 120), rate=5.0)
        chosen = grid_indices(clip.stamps_ns, frame_period_ns=round(0.2 * NANOSECONDS))[:FRAMES]
        found.append(list(clip.frames_thwc[chosen]))
    return found


@pytest.fixture(scope='module')
def tokens(backbone, windows):
    """Return a function that gives tokens of a kind, `[b, t, n, d]`."""
    encoder = TorchEncoder(backbone, device=torch.device('cpu'))
    cache = {}

    def give(kind):
        if kind not in cache:
            backbone.give(kind)
            cache[kind] = torch.stack([encoder.encode(images) for images in windows]).clone()
        return cache[kind]

    return give


def loss_curve(model, x, parameters, steps):
    targets = torch.arange(len(ACTIONS))
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(x), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        pytest.param(name, options, id='-'.join([name, *map(str, options.values())]))
        for name, options in VARIANTS
    ],
)
def test_a_few_steps_lower_the_loss(name, options, tokens, backbone):
    torch.manual_seed(0)
    head = create_head(
        name,
        width=backbone.width,
        frames=FRAMES,
        tokens=backbone.tokens,
        classes=len(ACTIONS),
        **options,
    )
    losses = loss_curve(head, tokens(head.consumes), head.parameters(), steps=20)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize('method', PEFT_METHODS)
def test_adapters_learn_together_with_the_head(method, windows):
    """Image PEFT with a STEP head (Table IV); video adapters with a linear one."""
    torch.manual_seed(0)
    backbone = load_bundle(find_bundle('tabletop-tiny')).model.backbone
    before = {key: value.clone() for key, value in backbone.vit.state_dict().items()}
    insert_adapters(backbone, method, frames=FRAMES)
    name = 'linear' if PEFT_METHODS[method].temporal else 'step'
    head = create_head(
        name, width=backbone.width, frames=FRAMES, tokens=backbone.tokens, classes=len(ACTIONS)
    )
    model = MultiTaskModel(backbone, {'action': head})
    model.train()
    images = torch.stack([torch.stack([torch.from_numpy(i) for i in w]) for w in windows])
    x_bt3hw = (images.permute(0, 1, 4, 2, 3).float() / 255 - 0.5) / 0.5
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses = loss_curve(lambda x: model(x)['action'], x_bt3hw, parameters, steps=8)
    assert losses[-1] < losses[0]
    inside = [p for p in backbone.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in inside)
    after = backbone.vit.state_dict()
    for key, value in after.items():
        if (old := before.get(key.replace('.frozen.', '.'))) is not None and key not in before:
            assert torch.equal(value, old), key


def test_the_tasks_of_the_tabletop_hold_the_actions():
    assert set(ACTIONS) <= set(TASKS['action'])
