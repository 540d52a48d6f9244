"""Frames that enter the caches of some cameras, and the windows that are asked about then."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from step_ros.streaming.attention_cache.build import NativeUpdate
from step_ros.streaming.attention_cache.cache import GREATEST_SPREAD, HeadCache
from step_ros.streaming.attention_cache.native import MOST_ORDERS, NativeCache
from step_ros.streaming.timing import Stopwatch


@dataclass(frozen=True, kw_only=True)
class CacheUpdate:
    """A frame, and the window that it fills.

    Attributes:
        cache: Its camera's.
        place: Where the frame is put.
        qkv_3gnc: What `StreamingHeads.project` gives for it.
        orders: Those in which the window is asked about, places with the oldest first; none if it
            is not.
    """

    cache: HeadCache
    place: int
    qkv_3gnc: Tensor
    orders: Sequence[Sequence[int]]


@torch.inference_mode()
def apply_updates(turns: Sequence[CacheUpdate], predicting: Stopwatch) -> list[Tensor]:
    """Put frames into their caches, and look at their windows, in order.

    Compiled passes do it all in one call: other threads of the process take Python's lock between
    two calls, and give it back late where processors are few.

    Args:
        turns: At least one; all caches are of the same heads.
        predicting: Takes the time that is spent on windows.

    Returns:
        What `StreamingHeads.classify` takes for each window, `[v, g, c]`.
    """
    natives = [turn.cache.native for turn in turns]
    compiled = [native for native in natives if native is not None]
    if len(compiled) < len(turns) or max(len(turn.orders) for turn in turns) > MOST_ORDERS:
        return _one_by_one(turns, predicting)
    return _compiled(turns, compiled, predicting)


def _one_by_one(turns: Sequence[CacheUpdate], predicting: Stopwatch) -> list[Tensor]:
    attended = []
    for turn in turns:
        turn.cache.put(turn.place, turn.qkv_3gnc)
        if turn.orders:
            with predicting:
                attended.append(turn.cache.attend(turn.orders))
    return attended


def _compiled(
    turns: Sequence[CacheUpdate], natives: Sequence[NativeCache], predicting: Stopwatch
) -> list[Tensor]:
    heads = turns[0].cache.heads
    array = (NativeUpdate * len(turns))()
    attended: list[Tensor | None] = []
    asked: list[np.ndarray | None] = []  # kept: the array holds addresses alone
    for turn, native, described in zip(turns, natives, array, strict=True):
        slots_vt = turn.cache.slots(turn.orders).astype(np.int32) if turn.orders else None
        sums_vgc = None
        if slots_vt is not None:
            sums_vgc = torch.empty(len(slots_vt), heads.groups, heads.channels)
        asked.append(slots_vt)
        attended.append(sums_vgc)
        native.fill(
            described,
            place=turn.place,
            qkv_3gnc=turn.qkv_3gnc,
            slots_vt=slots_vt,
            attended_vgc=sums_vgc,
            spreads_t=turn.cache.spreads,
        )
    passes, done = natives[0].passes, 0
    while True:
        done, attend_ns = passes.apply_updates(array, first=done, most_spread=GREATEST_SPREAD)
        predicting.ns += attend_ns
        if done == len(turns):
            break
        with predicting:  # scores that what is kept cannot hold: computed anew
            attended[done] = turns[done].cache.attend(turns[done].orders)
        done += 1
    return [
        sums_vgc.expand(len(turn.orders), -1, -1)
        for turn, sums_vgc in zip(turns, attended, strict=True)
        if sums_vgc is not None
    ]
