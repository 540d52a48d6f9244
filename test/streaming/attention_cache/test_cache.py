# SPDX-License-Identifier: Apache-2.0
"""Streaming heads: equal to the plain head on every window, in fixed memory."""

import ctypes
import gc
import random
from types import FunctionType, ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ros.streaming.attention_cache import storage
from step_ros.streaming.attention_cache.cache import GREATEST_SPREAD, HeadCache
from step_ros.streaming.attention_cache.passes import load_native
from step_ros.streaming.attention_cache.stacked_heads import (
    StreamingHeads,
    find_not_streaming_reason,
)
from step_ros.streaming.attention_cache.storage import choose_kept, exponentials_bytes

TOLERANCE = {'float32': 1e-4, 'none': 1e-4, 'bfloat16': 1e-3}
FRAME_WISE = ('learnable', 'fixed', 'hybrid', 'after', 'none')


def per_frame(heads, tokens):
    return tokens + (next(iter(heads.values())).consumes == 'all')


class Film:
    """Stores random frames in a cache, and compares its logits with the plain heads'."""

    def __init__(self, heads, cache, *, seed=0, scale=1.0):
        self.heads, self.cache = heads, cache
        self._generator = torch.Generator().manual_seed(seed)
        self._scale = scale
        self.frames = {}

    def store(self, place):
        streaming = self.cache.heads
        width = next(iter(self.heads.values())).width
        x_1nd = self._scale * torch.randn(1, streaming.tokens, width, generator=self._generator)
        self.frames[place] = x_1nd[0]
        self.cache.store_frame(place, streaming.project(x_1nd)[0])

    @torch.inference_mode()
    def worst(self, orders):
        """Return the greatest relative difference of a logit from the plain head."""
        logits = self.cache.logits(orders)
        x_btnd = torch.stack([torch.stack([self.frames[p] for p in order]) for order in orders])
        differences = []
        for task, head in self.heads.items():
            expected = head(x_btnd)
            difference = (logits[task] - expected).abs().max() / expected.abs().max().clamp(
                min=1.0
            )
            differences.append(float(difference))
        return max(differences)


def check_stream(heads, cache, *, kept, chance, steps=9, scale=1.0):
    film = Film(heads, cache, scale=scale, seed=chance.randrange(1000))
    places = list(range(cache.heads.frames))
    for place in places:
        film.store(place)
    for _ in range(steps):
        place = places.pop(0)
        film.store(place)
        places.append(place)
        if chance.random() < 0.3:
            chance.shuffle(places)  # late frames
        assert film.worst([places, places[::-1]]) < TOLERANCE[kept]
        assert film.worst([places]) < TOLERANCE[kept]


@settings(max_examples=120)
@given(
    positions=st.sampled_from([*FRAME_WISE, 'token-wise']),
    cls=st.sampled_from(['global', 'frame']),
    pooling=st.sampled_from(['both', 'patches', 'cls']),
    kept=st.sampled_from(['float32', 'bfloat16', 'none']),
    compiled=st.booleans(),
    tokens=st.integers(1, 37),
    frames=st.integers(1, 4),
    tasks=st.integers(1, 3),
    attention_heads=st.sampled_from([1, 2, 3]),
    classifier=st.sampled_from(['linear', 'mlp']),
    chance=st.randoms(use_true_random=False),
)
def test_every_window_equals_the_plain_head(
    make_heads,
    positions,
    cls,
    pooling,
    kept,
    compiled,
    tokens,
    frames,
    tasks,
    attention_heads,
    classifier,
    chance,
):
    if positions == 'after' and pooling == 'cls':
        cls = 'frame'
    if kept == 'bfloat16':
        tokens += 12  # bfloat16 is for large windows, in which its rounding evens out
    heads = make_heads(
        tasks=tasks,
        tokens=tokens,
        frames=frames,
        positions=positions,
        cls=cls,
        pooling=pooling,
        attention_heads=attention_heads,
        classifier=classifier,
    )
    if positions == 'token-wise':
        kept = 'none'
    streaming = StreamingHeads(heads, tokens=per_frame(heads, tokens))
    cache = HeadCache(streaming, kept=kept, native=load_native() if compiled else None)
    check_stream(heads, cache, kept=kept, chance=chance, steps=frames + 2)


def greatest_score(heads, x_btnd):
    scores = []
    for head in heads.values():
        attention, x_bld = head.block.attention, head.sequence(x_btnd)
        qkv = attention.qkv(x_bld).unflatten(-1, (3, attention.attention_heads, -1))
        q, k, _ = qkv.permute(2, 0, 3, 1, 4)
        scores.append((q @ k.mT * q.shape[-1] ** -0.5).abs().max())
    return max(scores).item()


@pytest.mark.parametrize('compiled', [True, False])
@pytest.mark.parametrize('kept', ['float32', 'bfloat16', 'none'])
def test_large_scores_stay_exact_from_kept_exponentials(make_heads, kept, compiled, monkeypatch):
    heads = make_heads(tokens=20, frames=4, std=0.5)
    for head in heads.values():
        head.positions.learned_td.data *= 0.2
    streaming = StreamingHeads(heads, tokens=20)
    cache = HeadCache(streaming, kept=kept, native=load_native() if compiled else None)
    film = Film(heads, cache, scale=5.0)
    for place in range(4):
        film.store(place)
    x_btnd = torch.stack([film.frames[place] for place in range(4)])[None]
    assert greatest_score(heads, x_btnd) > 100
    if kept != 'none':
        # Blocks are exact for any scores: make sure that they are not used.
        monkeypatch.setattr(HeadCache, 'sum_in_blocks', None)
    check_stream(heads, cache, kept=kept, chance=random.Random(1), scale=5.0)


@pytest.mark.parametrize('compiled', [True, False])
def test_spread_positions_are_summed_in_blocks(make_heads, compiled):
    heads = make_heads(tokens=20, frames=4, std=2.0)
    streaming = StreamingHeads(heads, tokens=20)
    cache = HeadCache(streaming, kept='float32', native=load_native() if compiled else None)
    check_stream(heads, cache, kept='float32', chance=random.Random(2), scale=2.0)
    assert max(cache.spreads) > GREATEST_SPREAD


@pytest.mark.parametrize('compiled', [True, False])
def test_nan_frame_spoils_only_its_own_windows(make_heads, compiled):
    heads = make_heads(frames=3)
    native = load_native() if compiled else None
    cache = HeadCache(StreamingHeads(heads, tokens=5), kept='float32', native=native)
    film = Film(heads, cache)
    for place in range(3):
        film.store(place)
    cache.store_frame(1, torch.full((3, 4, 5, 6), float('nan')))
    assert not torch.isfinite(cache.logits([(0, 1, 2)])['task0']).all()
    film.store(1)
    assert film.worst([(2, 0, 1), (1, 0, 2)]) < 1e-4


@pytest.mark.parametrize('compiled', [True, False])
@pytest.mark.parametrize('cls', ['global', 'frame'])
@pytest.mark.parametrize('kept', ['float32', 'bfloat16', 'none'])
def test_newest_attention_equals_the_plain_head(make_heads, kept, cls, compiled):
    heads = make_heads(tasks=3, tokens=6, frames=3, cls=cls)
    native = load_native() if compiled else None
    streaming = StreamingHeads(heads, tokens=per_frame(heads, 6))
    cache = HeadCache(streaming, kept=kept, native=native)
    assert not cache.newest_attention('task0').any()
    film = Film(heads, cache)
    for place in range(3):
        film.store(place)
    for order in [(0, 1, 2), (1, 2, 0), (2, 0, 1)]:
        cache.logits([order, order[::-1]])
        x_btnd = torch.stack([film.frames[place] for place in order])[None]
        for task, head in heads.items():
            attention_n = cache.newest_attention(task)
            with torch.inference_mode():
                expected_n = head.attention_maps(x_btnd).columns_btn[0, -1]
            torch.testing.assert_close(
                attention_n[-6:], expected_n, rtol=2e-2, atol=TOLERANCE[kept]
            )
    with pytest.raises(ValueError, match=r"no task 'gait'; there are task0, task1, task2"):
        cache.newest_attention('gait')


def tensors_within(owner, *, shared):
    """Return all tensors that an object holds at any depth, but not those of a shared object."""
    of_shared = {
        x.data_ptr()
        for value in vars(shared).values()
        for x in (value if isinstance(value, tuple) else (value,))
        if isinstance(x, torch.Tensor)
    }
    found, seen, left = [], {id(shared)}, [owner]
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, (type, ModuleType, FunctionType, ctypes.CDLL)):
            continue
        seen.add(id(each))
        if isinstance(each, torch.Tensor):
            found += [] if each.data_ptr() in of_shared else [each]
        else:
            left += gc.get_referents(each)
    return found


@pytest.mark.parametrize('compiled', [True, False])
@pytest.mark.parametrize('kept', ['float32', 'bfloat16', 'none'])
def test_memory_is_fixed_from_the_start(make_heads, kept, compiled):
    heads = make_heads()
    native = load_native() if compiled else None
    cache = HeadCache(StreamingHeads(heads, tokens=5), kept=kept, native=native)

    def memory():
        found = tensors_within(cache, shared=cache.heads)
        return {x.data_ptr(): x.untyped_storage().nbytes() for x in found}

    before, stated = memory(), cache.bytes
    film = Film(heads, cache)
    for step in range(20):
        film.store(step % 3)
        cache.logits([(0, 1, 2), (2, 1, 0)])
    assert memory() == before
    assert cache.bytes == stated
    # The stated bytes are all memory but for the constants.
    assert stated <= sum(before.values()) <= stated + 1000
    assert cache.bytes_per_task == stated // 2


# ---- how exponentials are kept


def test_budget_chooses_how_exponentials_are_kept(make_heads, monkeypatch):
    streaming = StreamingHeads(make_heads(), tokens=5)
    entries = 4 * 3 * 5 * 3 * 16  # groups, frames, tokens, frames, tokens in a row
    assert exponentials_bytes(streaming, 'float32') == 4 * entries
    assert exponentials_bytes(streaming, 'bfloat16') == 2 * entries
    assert choose_kept(streaming, 4 * entries) == 'float32'
    assert choose_kept(streaming, 4 * entries - 1) == 'bfloat16'
    assert choose_kept(streaming, 2 * entries) == 'bfloat16'
    assert choose_kept(streaming, 2 * entries - 1) == 'none'
    assert choose_kept(streaming, 0) == 'none'
    monkeypatch.setattr(storage, 'FLOAT32_LIMIT_BYTES', 4 * entries - 1)
    assert choose_kept(streaming, 10**9) == 'bfloat16'


@pytest.mark.parametrize(
    'options',
    [{'positions': 'token-wise'}, {'pooling': 'cls'}, {'pooling': 'cls', 'cls': 'frame'}],
)
def test_no_exponentials_are_kept_if_they_do_not_help(make_heads, options):
    heads = make_heads(**options)
    assert choose_kept(StreamingHeads(heads, tokens=per_frame(heads, 5)), 10**9) == 'none'


def test_token_wise_positions_refuse_kept_exponentials(make_heads):
    streaming = StreamingHeads(make_heads(positions='token-wise'), tokens=5)
    with pytest.raises(ValueError, match='token-wise'):
        HeadCache(streaming, kept='float32')


# ---- which heads stream


def test_heads_that_cannot_stream_give_the_reason(make_heads):
    assert find_not_streaming_reason(make_heads()) == ''
    assert 'norm' in find_not_streaming_reason(make_heads(block='attn+ln+skip'))
    assert 'norm' in find_not_streaming_reason(make_heads(block='full'))
    mixed = {**make_heads(tasks=1), 'other': make_heads(tasks=1, pooling='cls')['task0']}
    assert 'not built alike' in find_not_streaming_reason(mixed)
    with pytest.raises(ValueError, match='not built alike'):
        StreamingHeads(mixed, tokens=5)


def test_heads_may_differ_in_their_labels(make_heads):
    heads = {**make_heads(tasks=1), 'other': make_heads(tasks=1, classes=7, seed=3)['task0']}
    cache = HeadCache(StreamingHeads(heads, tokens=5), kept='float32')
    film = Film(heads, cache)
    for place in range(3):
        film.store(place)
    assert film.worst([(0, 1, 2)]) < 1e-4
    assert cache.logits([(0, 1, 2)])['other'].shape == (1, 7)


def test_frames_of_another_size_are_refused(make_heads):
    streaming = StreamingHeads(make_heads(), tokens=5)
    with pytest.raises(ValueError, match=r'\[4, 12\].*5 tokens of width 12'):
        streaming.project(torch.zeros(1, 4, 12))
