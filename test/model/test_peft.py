"""Adapters: what they start as, what they compute, what trains, and what is refused."""

import math
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from step_ros.model.backbone import create_backbone
from step_ros.model.peft import (
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
# At the start these change nothing; VPT's prompts are random.
NEUTRAL = [(name, options) for name, options in VARIANTS if not name.startswith('vpt')]
FAMILIES = {
    'plain': {},
    'dinov2': {'init_values': 0.3, 'reg_tokens': 2},
    'clip': {'pre_norm': True},
    'siglip': {'class_token': False, 'global_pool': 'avg', 'fc_norm': False},
    'one block': {'depth': 1},
}


def make_backbone(*, family='dinov2', depth=2):
    """Make a tiny backbone in float64, with 2 x 3 patches."""
    arguments = {'embed_dim': 32, 'depth': depth, 'num_heads': 2, **FAMILIES[family]}
    return create_backbone(
        'vit_tiny_patch16_224', weights='random', image_size=(32, 48), arguments=arguments
    ).double()


def make_adapted(name, *, family='dinov2', frames=FRAMES, **options):
    return insert_adapters(make_backbone(family=family), name, frames=frames, **options)


def randomise(backbone, *, seed=0):
    """Leave the start behind, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data += 0.3 * noise
    return backbone


def images(count, *, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 32, 48, generator=generator, dtype=torch.float64)


def tokens(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- at the start


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize(('name', 'options'), NEUTRAL)
def test_fresh_adapters_leave_every_token_exactly_as_it_was(family, name, options):
    expected = make_backbone(family=family).vit.forward_features(images(6))
    adapted = make_adapted(name, family=family, **options)
    assert torch.equal(adapted.vit.forward_features(images(6)), expected)


@pytest.mark.parametrize('deep', [True, False])
def test_prompts_start_uniformly_within_vpts_bound(deep):
    adapted = make_adapted('vpt-deep' if deep else 'vpt-shallow', prompts=500)
    bound = math.sqrt(6 / (3 * 16 * 16 + 32))
    states = adapter_state(adapted)
    assert list(states) == [f'blocks.{index}.prompts_pd' for index in range(2 if deep else 1)]
    for prompts in states.values():
        assert prompts.shape == (500, 32)
        assert 0.99 * bound < prompts.abs().max() <= bound
        assert prompts.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_first_layers_start_as_published():
    adaptformer, aim = make_adapted('adaptformer'), make_adapted('aim', bottleneck=512)
    down = adapter_state(adaptformer)['blocks.0.adapter.down.weight']
    assert 0.95 / math.sqrt(32) < down.abs().max() <= 1 / math.sqrt(32)
    for part in ('temporal', 'spatial', 'joint'):
        down = adapter_state(aim)[f'blocks.1.{part}.down.weight']
        assert down.std().item() == pytest.approx(0.02, rel=0.05)
    zero = [key for key, tensor in adapter_state(aim).items() if not tensor.any()]
    assert len(zero) == 1 + 2 * 3 * 3


# ---- what trains


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', NAMES)
def test_as_many_tokens_as_before(family, name):
    expected = make_backbone(family=family).vit.forward_features(images(6))
    adapted = randomise(make_adapted(name, family=family))
    found = adapted.vit.forward_features(images(6))
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert not torch.allclose(found, expected)


@pytest.mark.parametrize('family', ['dinov2', 'clip'])
@pytest.mark.parametrize(('name', 'options'), VARIANTS)
def test_the_inserted_parameters_train_and_nothing_else(family, name, options):
    original = {
        key: value.clone() for key, value in make_backbone(family=family).named_parameters()
    }
    adapted = randomise(make_adapted(name, family=family, **options))
    before = adapter_state(adapted)
    trainable = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert len(trainable) == len(before) > 0
    optimiser = torch.optim.AdamW(adapted.parameters(), lr=0.01, weight_decay=0.1)
    patches = adapted(images(6))
    (patches * tokens(*patches.shape)).sum().backward()
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


def test_training_mode_reaches_what_was_inserted_and_no_frozen_dropout():
    arguments = {'embed_dim': 32, 'depth': 2, 'num_heads': 2}
    rates = {'proj_drop_rate': 0.5, 'attn_drop_rate': 0.5, 'drop_path_rate': 0.5}
    backbone = create_backbone(
        'vit_tiny_patch16_224',
        weights='random',
        image_size=(32, 48),
        arguments={**arguments, **rates},
    )
    adapted = randomise(insert_adapters(backbone, 'adaptformer', frames=1, dropout=0.5))
    x = images(2).float()
    still = adapted(x)
    assert torch.equal(adapted(x), still)
    adapted.train()
    for block in adapted.vit.blocks:
        assert block.adapter.dropout.training
        assert not any(module.training for module in block.frozen.modules())
    assert not torch.equal(adapted(x), still)
    # Without dropout beside it, the frozen path has nothing random.
    for block in adapted.vit.blocks:
        block.adapter.dropout.p = 0.0
    assert torch.equal(adapted(x), still)
    adapted.eval()
    assert torch.equal(adapted(x), still)


# ---- one block, computed again


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


def frozen_block():
    return make_backbone().vit.blocks[0]


def test_the_algebra_of_these_tests_is_that_of_timm():
    block, x = frozen_block(), tokens(6, 9, 32)
    torch.testing.assert_close(plain_block(block, x), block(x), rtol=1e-12, atol=1e-12)


def check_block(adapted, compute):
    """Compare the first block with `compute(frozen block, tensors by name, tokens)`."""
    found = adapted.vit.blocks[0]
    own = {
        name.removeprefix('blocks.0.'): tensor for name, tensor in adapter_state(adapted).items()
    }
    x = tokens(2 * FRAMES, 3 + 6, 32)
    expected = compute(frozen_block(), own, x)
    torch.testing.assert_close(found(x), expected, rtol=1e-11, atol=1e-11)


def part(own, name):
    weight, bias = own[f'{name}.weight'], own[f'{name}.bias']
    return SimpleNamespace(weight=weight, bias=bias)


def bottleneck(own, name, x, activation):
    return linear(part(own, f'{name}.up'), activation(linear(part(own, f'{name}.down'), x)))


def test_vpt_by_hand():
    def prompted(block, own, x):
        prompts = own['prompts_pd'][None].repeat(len(x), 1, 1)
        return plain_block(block, torch.cat([x[:, :3], prompts, x[:, 3:]], 1))

    def deep(block, own, x):
        y = prompted(block, own, x)
        return torch.stack([y[:, index] for index in range(9 + 4) if index not in range(3, 7)], 1)

    check_block(randomise(make_adapted('vpt-shallow', prompts=4)), prompted)
    check_block(randomise(make_adapted('vpt-deep', prompts=4)), deep)


def test_adaptformer_by_hand():
    def compute(block, own, x):
        x = x + attended(block, x)
        beside = 0.25 * bottleneck(own, 'adapter', x, lambda value: value.clamp(min=0))
        return x + fed_forward(block, x) + beside

    check_block(randomise(make_adapted('adaptformer', bottleneck=5, scale=0.25)), compute)


@pytest.mark.parametrize('before_attention', [False, True])
def test_st_adapter_by_hand(before_attention):
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
    check_block(randomise(make_adapted('st-adapter', **options)), compute)


@pytest.mark.parametrize('before_attention', [False, True])
def test_aim_by_hand(before_attention):
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
    check_block(randomise(make_adapted('aim', **options)), compute)


@pytest.mark.parametrize('family', ['dinov2', 'clip'])
def test_aims_positions_are_added_once_to_all_tokens_of_a_frame(family):
    adapted, vit = randomise(make_adapted('aim', family=family)), make_backbone(family=family).vit
    x = tokens(2 * FRAMES, 9, 32)
    positions = adapter_state(adapted)['norm_pre.positions_td']
    expected = torch.stack([x[image] + positions[image % FRAMES] for image in range(len(x))])
    if family == 'clip':
        expected = layer_norm(vit.norm_pre, expected)
    torch.testing.assert_close(adapted.vit.norm_pre(x), expected)


# ---- frames and windows


@pytest.mark.parametrize('name', IMAGE)
def test_image_methods_treat_every_frame_on_its_own(name):
    adapted, x = randomise(make_adapted(name)), images(7)
    order = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    torch.testing.assert_close(adapted(x[order]), adapted(x)[order])
    torch.testing.assert_close(adapted(x[:1]), adapted(x)[:1])


@pytest.mark.parametrize('name', TEMPORAL)
def test_video_methods_notice_the_order_of_frames(name):
    adapted, x = randomise(make_adapted(name)), images(FRAMES)
    reversed_back = adapted(x.flip(0)).flip(0)
    assert (reversed_back - adapted(x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ('name', 'options'), [variant for variant in VARIANTS if variant[0] in TEMPORAL]
)
def test_windows_of_a_batch_do_not_meet(name, options):
    adapted = randomise(make_adapted(name, **options))
    x = images(3 * FRAMES)
    changed = x.clone()
    changed[FRAMES : 2 * FRAMES] = images(FRAMES, seed=9)
    found, expected = adapted(changed), adapted(x)
    for window, same in ((0, True), (1, False), (2, True)):
        rows = slice(window * FRAMES, (window + 1) * FRAMES)
        assert torch.allclose(found[rows], expected[rows]) is same
        torch.testing.assert_close(adapted(x[rows]), expected[rows])


@pytest.mark.parametrize('name', TEMPORAL)
def test_a_broken_window_is_refused(name):
    adapted = make_adapted(name)
    with pytest.raises(ValueError, match=r'got 4 images; .* the 3 frames .* a multiple of 3'):
        adapted(images(4))


def test_deep_prompts_differ_from_shallow_ones():
    deep, shallow = make_adapted('vpt-deep'), make_adapted('vpt-shallow')
    same = {'blocks.0.prompts_pd': adapter_state(deep)['blocks.0.prompts_pd']}
    load_adapter_state(shallow, same)
    assert not torch.allclose(deep(images(2)), shallow(images(2)))
    # With a single block, there is no difference left.
    deep, shallow = (
        make_adapted(f'vpt-{kind}', family='one block') for kind in ('deep', 'shallow')
    )
    load_adapter_state(shallow, adapter_state(deep))
    assert torch.equal(deep(images(2)), shallow(images(2)))


# ---- sizes of the published backbones


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
def test_parameters_at_the_size_of_the_papers(name, options, expected, architecture):
    assert count(name, architecture=architecture, **options) == expected


def test_the_papers_parameter_counts():
    assert 7.05e6 < count('st-adapter') == 7_110_144 < 7.15e6
    assert count('aim') == 10_663_680
    assert count('adaptformer') == 1_189_632
    assert count('vpt-deep') == 73_728


# ---- states


@pytest.mark.parametrize(('name', 'options'), VARIANTS)
def test_states_go_round(name, options):
    adapted = randomise(make_adapted(name, **options))
    state = adapter_state(adapted)
    fresh = make_adapted(name, **options)
    assert not torch.allclose(fresh(images(3)), adapted(images(3)))
    load_adapter_state(fresh, load(save(state)))
    assert torch.equal(fresh(images(3)), adapted(images(3)))
    assert all(not value.requires_grad for value in state.values())
    # A state is a copy, and does not depend on what is trainable.
    fresh.requires_grad_(False)
    assert adapter_state(fresh).keys() == state.keys()
    for value in state.values():
        value.zero_()
    torch.testing.assert_close(fresh(images(3)), adapted(images(3)))


def test_names_in_a_state():
    assert list(adapter_state(make_adapted('vpt-deep'))) == [
        'blocks.0.prompts_pd',
        'blocks.1.prompts_pd',
    ]
    parts = ('down.weight', 'down.bias', 'up.weight', 'up.bias')
    assert [
        name for name in adapter_state(make_adapted('adaptformer')) if name.startswith('blocks.1')
    ] == [f'blocks.1.adapter.{part}' for part in parts]
    assert set(adapter_state(make_adapted('st-adapter', family='one block'))) == {
        f'blocks.0.before_mlp.{part}'
        for part in (*parts, 'convolution.weight', 'convolution.bias')
    }
    assert set(adapter_state(make_adapted('aim', family='one block'))) == {
        'norm_pre.positions_td',
        *(f'blocks.0.{one}.{part}' for one in ('temporal', 'spatial', 'joint') for part in parts),
    }
    assert adapter_state(make_backbone()) == {}


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
def test_a_damaged_state_is_refused_and_changes_nothing(damage, message):
    adapted = make_adapted('adaptformer')
    before = adapter_state(adapted)
    state = adapter_state(randomise(make_adapted('adaptformer')))
    damage(state)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_adapter_state(adapted, state)
    assert all(torch.equal(value, before[key]) for key, value in adapter_state(adapted).items())


def test_a_state_of_another_method_is_refused():
    with pytest.raises(ValueError, match=r"'blocks\.0\..*' is (missing|unexpected)"):
        load_adapter_state(make_adapted('aim'), adapter_state(make_adapted('st-adapter')))
    with pytest.raises(ValueError, match=r"'blocks\.0\.adapter\.down\.bias' is unexpected"):
        load_adapter_state(make_backbone(), adapter_state(make_adapted('adaptformer')))


# ---- where they are put, and what is refused


def test_the_registry():
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
def test_adapters_have_the_type_of_the_backbone(dtype):
    backbone = make_backbone().to(dtype)
    assert insert_adapters(backbone, 'aim', frames=1) is backbone
    assert {value.dtype for value in adapter_state(backbone).values()} == {dtype}
    assert backbone(images(1).to(dtype)).dtype == dtype
    assert not any(module.training for module in backbone.modules())


def test_what_was_trainable_by_mistake_is_frozen():
    backbone = make_backbone().requires_grad_(True)
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
def test_a_bad_request_is_refused_before_anything_changes(name, options, message):
    backbone = make_backbone()
    with pytest.raises(ValueError, match=re.escape(message)):
        insert_adapters(backbone, name, **{'frames': FRAMES, **options})
    assert adapter_state(backbone) == {}


@pytest.mark.parametrize('first', NAMES)
def test_adapters_go_in_once(first):
    adapted = make_adapted(first)
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


def test_a_model_without_blocks_is_refused():
    backbone = make_backbone()
    backbone.vit = nn.Identity()
    with pytest.raises(ValueError, match=r'is made of linear\.Identity, not of'):
        insert_adapters(backbone, 'adaptformer', frames=1)
