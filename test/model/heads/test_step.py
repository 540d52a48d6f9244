# SPDX-License-Identifier: Apache-2.0
"""The STEP head equals the paper's equations, and sees frame order only through its rows."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional as F

from step_ros.model.attention import SelfAttention
from step_ros.model.heads.step import StepHead

FRAMES = 4


@st.composite
def heads(draw, positions, **options):
    """Draw a head in float64 with random weights, and windows for it, `[b, t, n, d]`."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    attention_heads = draw(st.integers(1, 3))
    width = attention_heads * draw(st.integers(2, 5))
    frames = draw(st.integers(2, 5))
    head = StepHead(
        width=width,
        frames=frames,
        classes=draw(st.integers(2, 4)),
        attention_heads=attention_heads,
        positions=positions,
    ).double()
    for parameter in head.parameters():
        parameter.data.normal_(std=0.7, generator=generator)
    tokens, batch = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    x_btnd = torch.randn(batch, frames, tokens, width, generator=generator, dtype=torch.float64)
    return head.eval(), x_btnd


def difference(one, other):
    return (one - other).abs().max().item()


def shuffled(draw, count):
    return draw(st.permutations(range(count)))


# ---- equal to the paper


def reference(head, x_tnd):
    """Return one window's logits by Eq. 1-2 and the text after them, token by token."""
    weights = {key: value.double() for key, value in head.state_dict().items()}
    sequence = [weights['cls_d']]
    for frame, tokens_nd in enumerate(x_tnd):
        for token_d in tokens_nd:
            row_d = (
                weights['positions.learned_td'][frame]
                if 'positions.learned_td' in weights
                else 0.0
            )
            sequence.append(token_d + row_d)
    width = x_tnd.shape[-1]
    w_q, w_k, w_v = weights['block.attention.qkv.weight'].split(width)
    b_q, b_k, b_v = weights['block.attention.qkv.bias'].split(width)
    w_o, b_o = weights['block.attention.out.weight'], weights['block.attention.out.bias']
    per_head = width // head.block.attention.attention_heads
    pooled_d = torch.zeros(width, dtype=torch.float64)
    for token_d in sequence:
        parts = []
        for start in range(0, width, per_head):
            part = slice(start, start + per_head)
            query = (w_q @ token_d + b_q)[part]
            keys = [(w_k @ other_d + b_k)[part] for other_d in sequence]
            values = [(w_v @ other_d + b_v)[part] for other_d in sequence]
            exponents = [math.exp(float(query @ key) / math.sqrt(per_head)) for key in keys]
            parts.append(
                sum(e / sum(exponents) * v for e, v in zip(exponents, values, strict=True))
            )
        pooled_d += (w_o @ torch.cat(parts) + b_o) / len(sequence)
    return weights['classifier.weight'] @ pooled_d + weights['classifier.bias']


@pytest.mark.parametrize('positions', ['learnable', 'none'])
@pytest.mark.parametrize(
    ('width', 'frames', 'tokens', 'attention_heads'), [(6, 3, 2, 2), (8, 4, 3, 1), (12, 1, 4, 4)]
)
def test_head_equals_the_papers_equations(positions, width, frames, tokens, attention_heads):
    generator = torch.Generator().manual_seed(width)
    head = StepHead(
        width=width,
        frames=frames,
        classes=5,
        attention_heads=attention_heads,
        positions=positions,
    ).double()
    for parameter in head.parameters():
        parameter.data.normal_(std=0.5, generator=generator)
    x_btnd = torch.randn(2, frames, tokens, width, generator=generator, dtype=torch.float64)
    expected = torch.stack([reference(head, x_tnd) for x_tnd in x_btnd])
    torch.testing.assert_close(head(x_btnd).detach(), expected, rtol=1e-10, atol=1e-10)


def test_float32_is_close_to_float64():
    torch.manual_seed(0)
    head = StepHead(width=384, frames=4, classes=7)
    x_btnd = torch.randn(2, 4, 16, 384)
    exact = head.double()(x_btnd.double())
    torch.testing.assert_close(head.float()(x_btnd).double(), exact, rtol=1e-4, atol=1e-5)


def test_self_attention_equals_torch():
    torch.manual_seed(0)
    ours = SelfAttention(24, attention_heads=3).double()
    theirs = torch.nn.MultiheadAttention(24, 3, batch_first=True, dtype=torch.float64)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = (
        ours.out.weight.data,
        ours.out.bias.data,
    )
    x_bld = torch.randn(2, 11, 24, dtype=torch.float64)
    torch.testing.assert_close(ours(x_bld), theirs(x_bld, x_bld, x_bld)[0])


# ---- parameters


def test_number_of_parameters_for_vit_b():
    head = StepHead(width=768, frames=16, classes=34)
    attention = 4 * (768 * 768 + 768)
    # The 17 rows are one for each frame and one for the global CLS token.
    assert sum(parameter.numel() for parameter in head.parameters()) == (
        attention + 17 * 768 + 768 * 34 + 34
    )
    assert all(parameter.requires_grad for parameter in head.parameters())
    blind = StepHead(width=768, frames=16, classes=34, positions='none')
    assert sum(parameter.numel() for parameter in blind.parameters()) == (
        attention + 768 + 768 * 34 + 34
    )


@pytest.mark.parametrize(
    ('width', 'expected'), [(32, 1), (64, 1), (384, 6), (768, 12), (1024, 16)]
)
def test_default_is_one_attention_head_per_64_channels(width, expected):
    with torch.device('meta'):
        head = StepHead(width=width, frames=2, classes=2)
        explicit = StepHead(width=width, frames=2, classes=2, attention_heads=8)
    assert head.block.attention.attention_heads == expected
    assert explicit.block.attention.attention_heads == 8


def test_embeddings_start_small_and_differ_between_frames():
    torch.manual_seed(0)
    head = StepHead(width=768, frames=16, classes=34)
    for embedding in (head.cls_d, head.positions.learned_td):
        assert 0.015 < embedding.std() < 0.025
        assert embedding.mean().abs() < 0.005
    assert torch.pdist(head.positions.learned_td).min() > 0.1


@pytest.mark.parametrize('positions', ['learnable', 'none'])
def test_gradient_reaches_every_parameter(positions):
    torch.manual_seed(0)
    head = StepHead(width=12, frames=FRAMES, classes=3, attention_heads=2, positions=positions)
    logits_bk = head(torch.randn(5, FRAMES, 3, 12))
    F.cross_entropy(logits_bk, torch.tensor([0, 1, 2, 1, 0])).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # Check each row, which matters most for the frame-wise embeddings. The bias of the keys
        # has no gradient: it shifts all scores of a query equally, and the softmax removes it.
        rows = parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad[:, None]
        if name == 'block.attention.qkv.bias':
            rows = torch.cat([rows[:12], rows[24:]])
        assert (rows.abs().amax(dim=1) > 0).all(), name


# ---- invariances


@given(data=st.data())
def test_without_positions_frame_order_does_not_matter(data):
    head, x_btnd = data.draw(heads('none'))
    order = shuffled(data.draw, head.frames)
    assert difference(head(x_btnd[:, order]), head(x_btnd)) < 1e-9


@given(data=st.data())
def test_step_sees_frame_order(data):
    head, x_btnd = data.draw(heads('learnable'))
    order = shuffled(data.draw, head.frames)
    assume(order != sorted(order))
    assert difference(head(x_btnd[:, order]), head(x_btnd)) > 1e-6


@pytest.mark.parametrize('positions', ['learnable', 'none'])
@given(data=st.data())
def test_order_of_patches_in_a_frame_does_not_matter(positions, data):
    head, x_btnd = data.draw(heads(positions))
    mixed = x_btnd.clone()
    for frame in range(head.frames):
        mixed[:, frame] = x_btnd[:, frame, shuffled(data.draw, x_btnd.shape[2])]
    assert difference(head(mixed), head(x_btnd)) < 1e-9


@given(data=st.data())
def test_patch_moved_to_another_frame_changes_the_logits(data):
    head, x_btnd = data.draw(heads('learnable'))
    moved = x_btnd.clone()
    moved[:, 0, 0], moved[:, 1, 0] = x_btnd[:, 1, 0], x_btnd[:, 0, 0]
    assert difference(head(moved), head(x_btnd)) > 1e-6


@given(data=st.data())
def test_equal_rows_make_the_head_order_invariant(data):
    head, x_btnd = data.draw(heads('learnable'))
    head.positions.learned_td.data[:] = head.positions.learned_td.data[0].clone()
    order = shuffled(data.draw, head.frames)
    assert difference(head(x_btnd[:, order]), head(x_btnd)) < 1e-9


@given(data=st.data())
def test_frames_with_equal_rows_can_be_swapped(data):
    head, x_btnd = data.draw(heads('learnable'))
    head.positions.learned_td.data[1] = head.positions.learned_td.data[0]
    order = [1, 0, *range(2, head.frames)]
    assert difference(head(x_btnd[:, order]), head(x_btnd)) < 1e-9


@given(data=st.data())
def test_frames_and_rows_permuted_together_change_nothing(data):
    head, x_btnd = data.draw(heads('learnable'))
    expected = head(x_btnd)
    order = shuffled(data.draw, head.frames)
    head.positions.learned_td.data = head.positions.learned_td.data[order]
    assert difference(head(x_btnd[:, order]), expected) < 1e-9


@pytest.mark.parametrize('positions', ['learnable', 'none'])
@given(data=st.data())
def test_reversing_twice_is_the_identity(positions, data):
    head, x_btnd = data.draw(heads(positions))
    before = x_btnd.clone()
    first, backwards = head(x_btnd), head(x_btnd.flip(1))
    assert torch.equal(head(x_btnd.flip(1).flip(1)), first)
    assert torch.equal(head(x_btnd.flip(1)), backwards)
    assert torch.equal(x_btnd, before)  # the head does not write to its input


@pytest.mark.parametrize('positions', ['learnable', 'none'])
@given(data=st.data())
def test_windows_of_a_batch_do_not_mix(positions, data):
    head, x_btnd = data.draw(heads(positions))
    together = head(torch.cat([x_btnd, x_btnd + 1]))
    assert difference(together[: len(x_btnd)], head(x_btnd)) < 1e-9


# ---- wrong use


@pytest.mark.parametrize(
    'shape',
    [(1, FRAMES - 1, 3, 12), (1, FRAMES + 1, 3, 12), (1, FRAMES, 3, 11), (1, 3, FRAMES, 12)],
)
@pytest.mark.parametrize('positions', ['learnable', 'none'])
def test_wrong_windows_are_refused(shape, positions):
    head = StepHead(width=12, frames=FRAMES, classes=3, attention_heads=2, positions=positions)
    with pytest.raises(ValueError, match=f'window of {shape[1]} frames of width {shape[3]}.*4'):
        head(torch.zeros(shape))


@pytest.mark.parametrize('shape', [(FRAMES, 3, 12), (FRAMES, 12), (1, 1, FRAMES, 3, 12)])
def test_tensor_of_other_dimensions_is_refused(shape):
    head = StepHead(width=12, frames=FRAMES, classes=3, attention_heads=2)
    with pytest.raises(ValueError):  # noqa: PT011
        head(torch.zeros(shape))


@pytest.mark.parametrize(('width', 'attention_heads'), [(12, 5), (32, 3), (100, None)])
def test_attention_heads_must_divide_the_width(width, attention_heads):
    if attention_heads is None:
        # One per 64 channels, rounded down.
        assert StepHead(width=width, frames=2, classes=2).block.attention.attention_heads == 1
    else:
        with pytest.raises(
            ValueError, match=f'attention_heads={attention_heads} does not divide width={width}'
        ):
            StepHead(width=width, frames=2, classes=2, attention_heads=attention_heads)
