# SPDX-License-Identifier: Apache-2.0
"""A batch of cache updates equals the same updates one by one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ros.streaming.attention_cache.batch import CacheUpdate, apply_updates
from step_ros.streaming.attention_cache.cache import GREATEST_SPREAD, HeadCache
from step_ros.streaming.attention_cache.passes import load_native
from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads
from step_ros.streaming.timing import Stopwatch

FRAMES, TOKENS = 3, 5


def make_caches(heads, *, kept='float32', compiled=True, cameras=2):
    native = load_native() if compiled else None
    return [HeadCache(heads, kept=kept, native=native) for _ in range(cameras)]


def random_updates(heads, caches, count, *, scale=1.0, orders=2, due=None):
    """Make updates of alternating cameras; by default each full window is due."""
    generator = torch.Generator().manual_seed(0)
    x_bnd = scale * torch.randn(count, heads.tokens, 12, generator=generator)
    updates, windows = [], [[] for _ in caches]
    for index, qkv_3gnc in enumerate(heads.project(x_bnd)):
        window = windows[index % len(caches)]
        place = window.pop(0) if len(window) == FRAMES else len(window)
        window.append(place)
        is_due = len(window) == FRAMES and (due is None or due[index])
        orders_of_window = [tuple(window), tuple(reversed(window))][:orders] if is_due else []
        cache = caches[index % len(caches)]
        updates.append(
            CacheUpdate(cache=cache, place=place, qkv_3gnc=qkv_3gnc, orders=orders_of_window)
        )
    return updates


def one_by_one(updates):
    """Apply updates by the methods of the cache."""
    attended = []
    for update in updates:
        update.cache.store_frame(update.place, update.qkv_3gnc)
        if update.orders:
            attended.append(update.cache.attend(update.orders))
    return attended


@settings(max_examples=60)
@given(
    positions=st.sampled_from(['learnable', 'fixed', 'none', 'after']),
    kept=st.sampled_from(['float32', 'bfloat16', 'none']),
    compiled=st.booleans(),
    cameras=st.integers(1, 3),
    orders=st.integers(1, 2),
    due=st.lists(st.booleans(), min_size=14, max_size=14),
)
def test_batch_equals_updates_one_by_one(
    make_heads, positions, kept, compiled, cameras, orders, due
):
    heads = StreamingHeads(make_heads(positions=positions), tokens=TOKENS)
    many, single = (
        make_caches(heads, kept=kept, compiled=compiled, cameras=cameras) for _ in range(2)
    )
    attended = apply_updates(random_updates(heads, many, 14, orders=orders, due=due), Stopwatch())
    expected = one_by_one(random_updates(heads, single, 14, orders=orders, due=due))
    assert len(attended) == len(expected)
    for attended_vgc, expected_vgc in zip(attended, expected, strict=True):
        assert attended_vgc.shape[0] == orders
        torch.testing.assert_close(attended_vgc, expected_vgc, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('compiled', [True, False])
def test_windows_out_of_range_are_summed_in_blocks(make_heads, compiled, monkeypatch):
    heads = StreamingHeads(make_heads(std=2.0), tokens=TOKENS)
    caches = make_caches(heads, compiled=compiled)
    updates = random_updates(heads, caches, 12, scale=0.1)
    # One camera's first frames are large: its windows are out of range, and later in it again.
    large = {0, 2, 4}
    updates = [
        replace(update, qkv_3gnc=update.qkv_3gnc * (400.0 if index in large else 1.0))
        for index, update in enumerate(updates)
    ]
    spreads, in_blocks = [], HeadCache.sum_in_blocks

    def watched(cache, slots_t):
        spreads.append(cache.spreads.max())
        return in_blocks(cache, slots_t)

    monkeypatch.setattr(HeadCache, 'sum_in_blocks', watched)
    attended = apply_updates(updates, Stopwatch())
    # Only the windows of frames 4, 6 and 8 hold large frames; each has two orders.
    assert len(spreads) == 6
    assert min(spreads) > GREATEST_SPREAD
    assert len(attended) == 8
    fresh = make_caches(heads, compiled=compiled)
    again = [replace(update, cache=fresh[index % 2]) for index, update in enumerate(updates)]
    for attended_vgc, expected_vgc in zip(attended, one_by_one(again), strict=True):
        assert torch.isfinite(attended_vgc).all()
        torch.testing.assert_close(attended_vgc, expected_vgc)


@pytest.mark.parametrize('compiled', [True, False])
def test_more_orders_than_one_call_takes(make_heads, compiled):
    heads = StreamingHeads(make_heads(), tokens=TOKENS)
    orders_of_window = [(0, 1, 2), (2, 1, 0), (1, 0, 2)]
    updates = random_updates(heads, make_caches(heads, compiled=compiled, cameras=1), 3)
    updates[-1] = replace(updates[-1], orders=orders_of_window)
    (attended_vgc,) = apply_updates(updates, Stopwatch())
    torch.testing.assert_close(attended_vgc, updates[-1].cache.attend(orders_of_window))
    assert len(attended_vgc) == 3


@pytest.mark.parametrize('compiled', [True, False])
def test_time_of_windows_is_measured_apart(make_heads, compiled):
    heads = StreamingHeads(make_heads(), tokens=TOKENS)
    caches = make_caches(heads, compiled=compiled, cameras=1)
    *filling, full = random_updates(heads, caches, FRAMES)
    predicting = Stopwatch()
    assert apply_updates(filling, predicting) == []
    assert predicting.ns == 0
    apply_updates([full], predicting)
    assert predicting.ns > 0
