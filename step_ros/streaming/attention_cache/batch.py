# SPDX-License-Identifier: Apache-2.0
"""A batch of frames that enter the attention caches of their cameras, with the due windows.

    CacheUpdate   camera   place   orders
                  front    3       [(4, 0, 1, 2, 3), (3, 2, 1, 0, 4)]   its window is due
                  side     1       []                                   stored only

Updates are applied in order: a window sees the frames stored before it, and no later one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from step_ros.streaming.attention_cache.cache import GREATEST_SPREAD, HeadCache
from step_ros.streaming.attention_cache.native import MOST_ORDERS, NativeCache
from step_ros.streaming.attention_cache.passes import NativeUpdate
from step_ros.streaming.timing import Stopwatch


@dataclass(frozen=True, kw_only=True)
class CacheUpdate:
    """A frame to store, and the orders in which its window is due.

    Attributes:
        cache: The attention cache of the frame's camera.
        place: The frame's place.
        qkv_3gnc: The frame's projections from `StreamingHeads.project`.
        orders: The orders in which to attend to the window afterwards, each with the places of
            the frames, oldest first; empty if the window is not due.
    """

    cache: HeadCache
    place: int
    qkv_3gnc: Tensor
    orders: Sequence[Sequence[int]]


@torch.inference_mode()
def apply_updates(updates: Sequence[CacheUpdate], predicting: Stopwatch) -> list[Tensor]:
    """Store frames in their caches and attend to their due windows, in order.

    The compiled passes do this in one call. Between two calls other threads may take Python's
    lock, and on a machine with few cores they give it back late.

    Args:
        updates: At least one; all caches have the same heads.
        predicting: Adds up the time spent on windows.

    Returns:
        The attended values of each due window, `[v, g, c]`, for `StreamingHeads.classify`.
    """
    natives = [update.cache.native for update in updates]
    compiled = [native for native in natives if native is not None]
    if len(compiled) < len(updates) or max(len(update.orders) for update in updates) > MOST_ORDERS:
        return _apply_one_by_one(updates, predicting)
    return _apply_compiled(updates, compiled, predicting)


def _apply_one_by_one(updates: Sequence[CacheUpdate], predicting: Stopwatch) -> list[Tensor]:
    attended = []
    for update in updates:
        update.cache.store_frame(update.place, update.qkv_3gnc)
        if update.orders:
            with predicting:
                attended.append(update.cache.attend(update.orders))
    return attended


def _apply_compiled(
    updates: Sequence[CacheUpdate], natives: Sequence[NativeCache], predicting: Stopwatch
) -> list[Tensor]:
    heads = updates[0].cache.heads
    array = (NativeUpdate * len(updates))()
    attended: list[Tensor | None] = []
    slots: list[np.ndarray | None] = []  # kept alive: the array holds only their addresses
    for update, native, described in zip(updates, natives, array, strict=True):
        slots_vt = update.cache.slots(update.orders).astype(np.int32) if update.orders else None
        sums_vgc = None
        if slots_vt is not None:
            sums_vgc = torch.empty(len(slots_vt), heads.groups, heads.channels)
        slots.append(slots_vt)
        attended.append(sums_vgc)
        native.fill(
            described,
            place=update.place,
            qkv_3gnc=update.qkv_3gnc,
            slots_vt=slots_vt,
            attended_vgc=sums_vgc,
            spreads_t=update.cache.spreads,
        )
    passes, done = natives[0].passes, 0
    while True:
        done, attend_ns = passes.apply_updates(array, first=done, most_spread=GREATEST_SPREAD)
        predicting.ns += attend_ns
        if done == len(updates):
            break
        # This window's spread is out of range: sum it in blocks, then go on after it.
        with predicting:
            attended[done] = updates[done].cache.attend(updates[done].orders)
        done += 1
    return [
        sums_vgc.expand(len(update.orders), -1, -1)
        for update, sums_vgc in zip(updates, attended, strict=True)
        if sums_vgc is not None
    ]
