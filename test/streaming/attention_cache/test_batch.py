"""Frames of several cameras enter their caches in one call: the same as one after the other."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ros.streaming.attention_cache.batch import CacheUpdate, apply_updates
from step_ros.streaming.attention_cache.build import load_native
from step_ros.streaming.attention_cache.cache import GREATEST_SPREAD, HeadCache
from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads
from step_ros.streaming.timing import Stopwatch

FRAMES, TOKENS = 3, 5


def make_caches(heads, *, kept='float32', compiled=True, cameras=2):
    native = load_native() if compiled else None
    return [HeadCache(heads, kept=kept, native=native) for _ in range(cameras)]


def random_turns(heads, caches, count, *, scale=1.0, orders=2, asks=None):
    """Make turns of the cameras in turn; by default each full window is asked about."""
    generator = torch.Generator().manual_seed(0)
    x_bnd = scale * torch.randn(count, heads.tokens, 12, generator=generator)
    turns, windows = [], [[] for _ in caches]
    for index, qkv_3gnc in enumerate(heads.project(x_bnd)):
        window = windows[index % len(caches)]
        place = window.pop(0) if len(window) == FRAMES else len(window)
        window.append(place)
        wanted = len(window) == FRAMES and (asks is None or asks[index])
        asked = [tuple(window), tuple(reversed(window))][:orders] if wanted else []
        cache = caches[index % len(caches)]
        turns.append(CacheUpdate(cache=cache, place=place, qkv_3gnc=qkv_3gnc, orders=asked))
    return turns


def one_by_one(turns):
    """Put and look through the cache's own methods."""
    attended = []
    for turn in turns:
        turn.cache.store_frame(turn.place, turn.qkv_3gnc)
        if turn.orders:
            attended.append(turn.cache.attend(turn.orders))
    return attended


@settings(max_examples=60)
@given(
    positions=st.sampled_from(['learnable', 'fixed', 'none', 'after']),
    kept=st.sampled_from(['float32', 'bfloat16', 'none']),
    compiled=st.booleans(),
    cameras=st.integers(1, 3),
    orders=st.integers(1, 2),
    asks=st.lists(st.booleans(), min_size=14, max_size=14),
)
def test_all_at_once_is_the_same_as_one_after_the_other(
    make_heads, positions, kept, compiled, cameras, orders, asks
):
    heads = StreamingHeads(make_heads(positions=positions), tokens=TOKENS)
    many, single = (
        make_caches(heads, kept=kept, compiled=compiled, cameras=cameras) for _ in range(2)
    )
    said = apply_updates(random_turns(heads, many, 14, orders=orders, asks=asks), Stopwatch())
    expected = one_by_one(random_turns(heads, single, 14, orders=orders, asks=asks))
    assert len(said) == len(expected)
    for said_vgc, expected_vgc in zip(said, expected, strict=True):
        assert said_vgc.shape[0] == orders
        torch.testing.assert_close(said_vgc, expected_vgc, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('compiled', [True, False])
def test_windows_out_of_range_are_computed_in_between(make_heads, compiled, monkeypatch):
    heads = StreamingHeads(make_heads(std=2.0), tokens=TOKENS)
    caches = make_caches(heads, compiled=compiled)
    turns = random_turns(heads, caches, 12, scale=0.1)
    # One camera's frames are large at first: its windows leave the range, and come back to it.
    large = {0, 2, 4}
    turns = [
        replace(turn, qkv_3gnc=turn.qkv_3gnc * (400.0 if index in large else 1.0))
        for index, turn in enumerate(turns)
    ]
    spreads, in_blocks = [], HeadCache.sum_in_blocks

    def watched(cache, slots_t):
        spreads.append(cache.spreads.max())
        return in_blocks(cache, slots_t)

    monkeypatch.setattr(HeadCache, 'sum_in_blocks', watched)
    said = apply_updates(turns, Stopwatch())
    # The windows of frames 4, 6 and 8 hold large ones, in two orders each; no others do.
    assert len(spreads) == 6
    assert min(spreads) > GREATEST_SPREAD
    assert len(said) == 8
    fresh = make_caches(heads, compiled=compiled)
    again = [replace(turn, cache=fresh[index % 2]) for index, turn in enumerate(turns)]
    for said_vgc, expected_vgc in zip(said, one_by_one(again), strict=True):
        assert torch.isfinite(said_vgc).all()
        torch.testing.assert_close(said_vgc, expected_vgc)


@pytest.mark.parametrize('compiled', [True, False])
def test_more_orders_than_the_passes_take_at_once(make_heads, compiled):
    heads = StreamingHeads(make_heads(), tokens=TOKENS)
    asked = [(0, 1, 2), (2, 1, 0), (1, 0, 2)]
    turns = random_turns(heads, make_caches(heads, compiled=compiled, cameras=1), 3)
    turns[-1] = replace(turns[-1], orders=asked)
    (said_vgc,) = apply_updates(turns, Stopwatch())
    torch.testing.assert_close(said_vgc, turns[-1].cache.attend(asked))
    assert len(said_vgc) == 3


@pytest.mark.parametrize('compiled', [True, False])
def test_the_time_for_windows_is_told_from_the_rest(make_heads, compiled):
    heads = StreamingHeads(make_heads(), tokens=TOKENS)
    caches = make_caches(heads, compiled=compiled, cameras=1)
    *filling, full = random_turns(heads, caches, FRAMES)
    predicting = Stopwatch()
    assert apply_updates(filling, predicting) == []
    assert predicting.ns == 0
    apply_updates([full], predicting)
    assert predicting.ns > 0
