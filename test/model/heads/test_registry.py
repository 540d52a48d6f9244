# SPDX-License-Identifier: Apache-2.0
"""All heads of the registry: frame order, the papers' parameter counts, names and options."""

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional as F

from step_ros.model.heads.registry import HEADS, create_head
from step_ros.model.heads.step import StepHead
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.positions import sinusoids

# Options of the papers' ablation tables, beside the names of the registry.
ABLATIONS = [
    *(('step', {'block': block}) for block in ('attn+ln+skip', 'full')),
    *(
        ('step', {'positions': kind})
        for kind in ('fixed', 'hybrid', 'token-wise', 'after', 'none')
    ),
    *(('step', {'pooling': pooling}) for pooling in ('cls', 'patches')),
    ('step', {'cls': 'frame'}),
    ('step', {'cls': 'frame', 'pooling': 'cls'}),
    ('step', {'cls': 'frame', 'pooling': 'patches', 'positions': 'after'}),
    ('step', {'cls': 'frame', 'positions': 'token-wise'}),
    ('step', {'positions': 'none', 'block': 'full', 'pooling': 'cls'}),
    ('step', {'positions': 'fixed', 'block': 'full'}),
    ('step', {'classifier': 'mlp'}),
    ('self-attention', {'positions': 'learnable'}),
    ('self-attention', {'classifier': 'mlp', 'block': 'full'}),
    *(
        ('attentive', {'positions': kind})
        for kind in ('learnable', 'fixed', 'hybrid', 'token-wise')
    ),
    ('attentive', {'classifier': 'mlp'}),
    ('fusion-cross-cls', {'positions': 'learnable'}),
]
FAMILY = [*((name, {}) for name in HEADS), *ABLATIONS]
# Order-aware heads in the papers, by name. Options change this as in Tables 18 and 20.
ORDER_AWARE = {'step', 'fusion-tcn', 'fusion-lstm'}


def is_order_aware(name, options):
    kind = options.get('positions')
    return kind not in ('none', 'after') if kind else name in ORDER_AWARE


INVARIANT = [entry for entry in FAMILY if not is_order_aware(*entry)]
AWARE = [entry for entry in FAMILY if is_order_aware(*entry)]


def named(entries):
    return [
        pytest.param(name, options, id='-'.join([name, *map(str, options.values())]))
        for name, options in entries
    ]


def input_tokens(head, patches):
    return {'patches': patches, 'cls': 1, 'all': patches + 1}[head.consumes]


@st.composite
def heads(draw, name, options):
    """Draw a head in float64 with random weights, and windows for it, `[b, t, n, d]`."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    width = 2 * draw(st.integers(4, 8))
    patches = draw(st.integers(1, 3))
    if 'attention_heads' in HEADS[name].options:
        options = {'attention_heads': draw(st.sampled_from([1, 2])), **options}
    head = create_head(
        name,
        width=width,
        frames=draw(st.integers(2, 5)),
        tokens=patches,
        classes=draw(st.integers(2, 4)),
        **options,
    ).double()
    for parameter in head.parameters():
        parameter.data.normal_(std=0.7, generator=generator)
    shape = (draw(st.integers(1, 2)), head.frames, input_tokens(head, patches), width)
    return head.eval(), torch.randn(shape, generator=generator, dtype=torch.float64)


def difference(one, other):
    return (one - other).abs().max().item()


# ---- frame order


@pytest.mark.parametrize(('name', 'options'), named(INVARIANT))
@given(data=st.data())
def test_permuted_frames_do_not_change_invariant_heads(name, options, data):
    head, x_btnd = data.draw(heads(name, options))
    assert not head.order_aware
    order = data.draw(st.permutations(range(head.frames)))
    assert difference(head(x_btnd[:, order]), head(x_btnd)) < 1e-9


@pytest.mark.parametrize(('name', 'options'), named(AWARE))
@given(data=st.data())
def test_permuted_frames_change_order_aware_heads(name, options, data):
    head, x_btnd = data.draw(heads(name, options))
    assert head.order_aware
    order = data.draw(st.permutations(range(head.frames)))
    assume(order != sorted(order))
    # At least one order changes the logits: a ReLU may hide a single order.
    orders = [order, list(reversed(range(head.frames))), [*range(1, head.frames), 0]]
    assert max(difference(head(x_btnd[:, o]), head(x_btnd)) for o in orders) > 1e-7


@pytest.mark.parametrize(('name', 'options'), named(FAMILY))
@given(data=st.data())
def test_reversing_twice_is_the_identity(name, options, data):
    head, x_btnd = data.draw(heads(name, options))
    before, logits_bk = x_btnd.clone(), head(x_btnd)
    head(x_btnd.flip(1))
    assert torch.equal(head(x_btnd.flip(1).flip(1)), logits_bk)
    assert torch.equal(x_btnd, before)


@pytest.mark.parametrize(
    ('name', 'options'),
    named(
        [
            ('step', {}),
            ('step', {'block': 'full', 'pooling': 'cls'}),
            ('step', {'positions': 'token-wise'}),
            ('self-attention', {'positions': 'learnable'}),
            ('attentive', {'positions': 'learnable'}),
        ]
    ),
)
@given(data=st.data())
def test_equal_rows_make_the_head_order_invariant(name, options, data):
    head, x_btnd = data.draw(heads(name, options))
    rows = head.positions.learned_td
    rows.data[:] = rows.data[0].clone()
    order = data.draw(st.permutations(range(head.frames)))
    assert difference(head(x_btnd[:, order]), head(x_btnd)) < 1e-9


@pytest.mark.parametrize(('name', 'options'), named([('step', {}), ('self-attention', {})]))
def test_rows_of_zeros_equal_no_positions(name, options):
    torch.manual_seed(0)
    given = {'width': 16, 'frames': 4, 'tokens': 3, 'classes': 3}
    blind = create_head(name, **given, **{**options, 'positions': 'none'})
    head = create_head(name, **given, **{**options, 'positions': 'learnable'})
    head.load_state_dict(
        {**blind.state_dict(), 'positions.learned_td': torch.zeros(4, 16)}, strict=True
    )
    x_btnd = torch.randn(2, 4, input_tokens(head, 3), 16)
    torch.testing.assert_close(head(x_btnd), blind(x_btnd))


def test_positions_after_the_attention_add_a_constant():
    """Eq. 5 of the longer paper: they only add the mean of the rows to the pooled features."""
    torch.manual_seed(0)
    given = {'width': 16, 'frames': 4, 'tokens': 3, 'classes': 3}
    head = create_head('step', **given, positions='after', pooling='patches').double()
    blind = create_head('step', **given, positions='none', pooling='patches').double()
    head.load_state_dict({**head.state_dict(), **blind.state_dict()})
    x_btnd = torch.randn(2, 4, 3, 16, dtype=torch.float64)
    shift_k = head.classifier.weight @ head.positions.learned_td.mean(0)
    torch.testing.assert_close(head(x_btnd), blind(x_btnd) + shift_k)


# ---- one head under two names


def copied(source, target):
    """Copy the weights of a head to a head whose modules have other names; return it."""
    weights = [tensor for _, tensor in sorted(source.state_dict().items())]
    keys = sorted(target.state_dict())
    target.load_state_dict(dict(zip(keys, weights, strict=True)))
    return target


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ('linear', 'fusion-avg'),
        ('attentive', 'fusion-cross-all'),
        ('self-attention', 'fusion-self-all-avg'),
    ],
)
def test_fusion_that_is_a_probe_gives_its_logits(one, other):
    torch.manual_seed(0)
    given = {'width': 16, 'frames': 4, 'tokens': 3, 'classes': 3}
    probe = create_head(one, **given)
    fusion = copied(probe, create_head(other, **given))
    x_btnd = torch.randn(2, 4, input_tokens(probe, 3), 16)
    torch.testing.assert_close(fusion(x_btnd), probe(x_btnd))


# ---- the papers' figures and formulas


@pytest.mark.parametrize(
    ('name', 'options', 'paper'),
    [
        ('linear', {'classifier': 'mlp'}, 0.3),
        ('step', {'classifier': 'mlp'}, 2.6),
        ('self-attention', {'classifier': 'mlp'}, 2.6),
        ('attentive', {'classifier': 'mlp'}, 7.3),
        ('step', {'classifier': 'mlp', 'block': 'attn+ln+skip'}, 2.6),
        ('step', {'classifier': 'linear', 'block': 'full'}, 7.1),
    ],
)
def test_truncated_parameter_counts_are_those_of_the_papers(name, options, paper):
    """Source: Table I, Table 5 and Table 19, with 34 labels."""
    with torch.device('meta'):
        head = create_head(name, width=768, frames=16, tokens=256, classes=34, **options)
    millions = sum(parameter.numel() for parameter in head.parameters()) / 1e6
    assert int(millions * 10) / 10 == paper


def test_registry_has_13_fusions_and_4_probes():
    fusions = [name for name in HEADS if name.startswith('fusion-')]
    assert len(fusions) == 13
    assert set(HEADS) - set(fusions) == {'linear', 'attentive', 'self-attention', 'step'}


def test_sinusoids_equal_those_of_the_transformer():
    table_td = sinusoids(5, 8)
    for frame, channel in itertools.product(range(5), range(8)):
        angle = torch.tensor(frame / 10000 ** (2 * (channel // 2) / 8))
        expected = angle.sin() if channel % 2 == 0 else angle.cos()
        torch.testing.assert_close(table_td[frame, channel], expected)
    assert sinusoids(3, 7).shape == (3, 7)


def test_weighted_self_attention_weighs_by_column_means():
    torch.manual_seed(0)
    head = create_head('fusion-self-weighted', width=8, frames=3, tokens=2, classes=4)
    x_btnd = torch.randn(1, 3, 1, 8)
    q, k, v = head.attention.qkv(x_btnd[0, :, 0]).chunk(3, dim=-1)
    weights = (q @ k.T / 8**0.5).softmax(-1)
    pooled = weights.mean(0) @ head.attention.out(weights @ v)
    torch.testing.assert_close(head(x_btnd)[0], head.classifier(pooled))


def test_tcn_sees_all_frames_with_the_fewest_blocks():
    for frames, blocks in [(2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (15, 3), (16, 4), (32, 5)]:
        head = create_head('fusion-tcn', width=4, frames=frames, tokens=1, classes=2).double()
        assert len(head.convolutions) == blocks
        for convolution in head.convolutions:
            convolution.weight.data.fill_(0.1)  # positive, so that no ReLU cuts the gradient
        x_btnd = torch.rand(1, frames, 1, 4, dtype=torch.float64, requires_grad=True)
        head(x_btnd).sum().backward()
        assert (x_btnd.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


# ---- gradients, frames, models


@pytest.mark.parametrize(('name', 'options'), named(FAMILY))
def test_gradient_reaches_every_parameter(name, options):
    torch.manual_seed(0)
    head = create_head(name, width=16, frames=4, tokens=3, classes=3, **options)
    logits_bk = head(torch.randn(6, 4, input_tokens(head, 3), 16))
    assert logits_bk.shape == (6, 3)
    F.cross_entropy(logits_bk, torch.tensor([0, 1, 2, 1, 0, 2])).backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize('name', HEADS)
def test_heads_accept_any_number_of_frames(name):
    """Source: Table 21."""
    for frames in (1, 2, 4, 8, 16):
        head = create_head(name, width=8, frames=frames, tokens=2, classes=3)
        assert head(torch.randn(1, frames, input_tokens(head, 2), 8)).shape == (1, 3)


def test_heads_of_a_model_must_consume_the_same_tokens(tiny_model):
    model = tiny_model()
    given = {'width': 32, 'frames': 4, 'tokens': 6, 'classes': 3}
    mixed = {'action': create_head('step', **given), 'verb': create_head('linear', **given)}
    with pytest.raises(ValueError, match='must consume the same tokens'):
        MultiTaskModel(model.backbone, mixed)


# ---- wrong use


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('setp', {}, r"head 'setp' is unknown; expected one of step, linear, attentive, se"),
        ('step', {'dropout': 0.1}, r"no option 'dropout'; its options .* attention_heads=None"),
        ('linear', {'positions': 'none'}, r"no option 'positions'.*pooling='avg'"),
        ('step', {'positions': 'sine'}, r"positions='sine': expected one of learnable, fixed"),
        ('step', {'block': 'big'}, r"block='big': expected one of attn, attn\+ln\+skip, full"),
        ('step', {'pooling': 'max'}, r"pooling='max': expected one of both, cls, patches"),
        ('step', {'cls': 'none'}, r"cls='none': expected one of global, frame"),
        ('step', {'classifier': 'svm'}, r"classifier='svm': expected one of linear, mlp"),
        ('step', {'attention_heads': 5}, r'=5 does not divide width=16; choose from 1, 2, 4'),
        ('step', {'positions': 'after', 'pooling': 'cls'}, r'nothing to the global CLS token'),
        ('attentive', {'positions': 'after'}, r"'after': the output of the query has no frames"),
        ('attentive', {'attends_to': 'patches'}, r'expected one of all, cls'),
        ('fusion-max', {'pooling': 'sum'}, r"pooling='sum': expected one of avg, max"),
    ],
)
def test_invalid_options_are_refused_with_the_valid_ones(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_head(name, width=16, frames=4, tokens=3, classes=2, **options)


def test_unusual_width_needs_a_number_of_attention_heads():
    sizes = {'width': 200, 'frames': 4, 'tokens': 3, 'classes': 2}
    with pytest.raises(ValueError, match=r'attention_heads=3 does not divide width=200; .* 4, 5'):
        create_head('step', **sizes)
    assert create_head('step', **sizes, attention_heads=4).block.attention.attention_heads == 4


@pytest.mark.parametrize('given', ['width', 'frames', 'classes'])
def test_sizes_must_be_positive(given):
    sizes = {'width': 16, 'frames': 4, 'tokens': 3, 'classes': 2, given: 0}
    with pytest.raises(ValueError, match=f'{given}=0: expected at least 1'):
        create_head('linear', **sizes)


@pytest.mark.parametrize(('name', 'options'), named([(name, {}) for name in HEADS]))
def test_window_of_another_length_or_width_is_refused(name, options):
    head = create_head(name, width=16, frames=4, tokens=3, classes=2, **options)
    tokens = input_tokens(head, 3)
    for frames, width in [(3, 16), (5, 16), (4, 8)]:
        with pytest.raises(ValueError, match=f'window of {frames} frames of width {width}'):
            head(torch.zeros(1, frames, tokens, width))
    with pytest.raises(ValueError, match=r'\[batch, frames, tokens, width\]'):
        head(torch.zeros(4, tokens, 16))
    if head.consumes == 'cls':
        with pytest.raises(ValueError, match='consumes only the CLS token'):
            head(torch.zeros(1, 4, 3, 16))


def test_token_wise_positions_check_the_number_of_tokens():
    head = create_head('step', width=16, frames=4, tokens=3, classes=2, positions='token-wise')
    with pytest.raises(ValueError, match=r'got 5 tokens per frame.*for 3'):
        head(torch.zeros(1, 4, 5, 16))
    with pytest.raises(ValueError, match='needs the number of tokens'):
        StepHead(width=16, frames=4, classes=2, positions='token-wise')
