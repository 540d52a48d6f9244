# SPDX-License-Identifier: Apache-2.0
"""The compiled passes over one camera's attention cache; the C++ is `csrc/attention_sums.cpp`.

Python owns all memory. A `_StepCache` structure holds only addresses of the tensors' data and
their sizes, so that a call into C++ passes one pointer:

    CacheTensors (torch) --data_ptr()--> _StepCache --byref--> step_put, step_attend
"""

import ctypes

import numpy as np
import torch
from torch import Tensor

from step_ros.streaming.attention_cache.passes import NativePasses, NativeUpdate, threads_for
from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads
from step_ros.streaming.attention_cache.storage import CacheTensors, row_length

# Most orders of a window that one call computes: forwards and reversed.
MOST_ORDERS = 2
# A group's frames are summed in this many parts, so that threads can share a group.
_PARTS = 4


class _StepCache(ctypes.Structure):
    """`StepCache` of `csrc/attention_cache.h`, whose comments explain the fields."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ('groups', 'frames', 'tokens', 'channels')),
        *((name, ctypes.c_int64) for name in ('stride', 'half', 'cls_row', 'parts')),
        *((name, ctypes.c_void_p) for name in ('q', 'k', 'v', 'kept', 'shifts')),
        *((name, ctypes.c_void_p) for name in ('row_parts', 'column_parts')),
        *((name, ctypes.c_void_p) for name in ('cls_columns', 'cls_keys')),
        *((name, ctypes.c_void_p) for name in ('newest', 'sums', 'cls_sums')),
        *((name, ctypes.c_void_p) for name in ('position_q', 'position_k', 'position_v')),
        ('slot_parts', ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ('cls_q', 'cls_k', 'cls_v')),
        *((name, ctypes.c_void_p) for name in ('cls_slot_columns', 'cls_slot_rows')),
        *((name, ctypes.c_void_p) for name in ('cls_itself', 'row_weights')),
    ]


class NativeCache:
    """Stores frames with their exponentials, and attends to windows.

    Args:
        passes: The compiled passes.
        heads: The streaming heads.
        tensors: The tensors of the cache; they keep exponentials.

    Attributes:
        passes: The compiled passes.
        bytes: Memory of the temporary sums.
        store_threads: Number of threads that store a frame.
    """

    def __init__(self, passes: NativePasses, heads: StreamingHeads, tensors: CacheTensors) -> None:
        kept = tensors.exponentials
        assert kept is not None
        groups, frames = heads.groups, heads.frames
        parts, row = min(frames, _PARTS), row_length(heads.tokens)
        self.passes, self._heads = passes, heads
        self._sums = torch.zeros(parts, MOST_ORDERS, groups, frames, row)
        self._cls_sums = torch.zeros(parts, MOST_ORDERS, groups)
        self.bytes = self._sums.nbytes + self._cls_sums.nbytes
        positions = [part[:, :, 0].contiguous() for part in heads.positions_gsmc]
        cls = [None] * 3 if heads.cls_gc is None else [part.contiguous() for part in heads.cls_gc]
        named = {
            'q': tensors.q_gtnc,
            'k': tensors.k_gtcn,
            'v': tensors.v_gtnc,
            'kept': kept.kept_gttnn,
            'shifts': kept.shift_gttn,
            'row_parts': kept.row_gtsn,
            'column_parts': kept.column_gstn,
            'cls_columns': kept.cls_column_gtn,
            'cls_keys': kept.cls_row_gtn,
            'newest': tensors.newest_gn,
            'sums': self._sums,
            'cls_sums': self._cls_sums,
            **dict(zip(('position_q', 'position_k', 'position_v'), positions, strict=True)),
            'slot_parts': kept.slot_gss,
            **dict(zip(('cls_q', 'cls_k', 'cls_v'), cls, strict=True)),
            'cls_slot_columns': kept.cls_slot_gs,
            'cls_slot_rows': None if heads.cls_gc is None else heads.cls_slots_gs.contiguous(),
            'cls_itself': None if heads.cls_gc is None else heads.cls_itself_g1.contiguous(),
            'row_weights': kept.row_weights_n,
        }
        # Keep the tensors alive: the structure holds only their addresses.
        self._alive = list(named.values())
        self._cache = _StepCache(
            groups=groups,
            frames=frames,
            tokens=heads.tokens,
            channels=heads.channels,
            stride=row,
            half=kept.kept_gttnn.dtype == torch.bfloat16,
            cls_row=heads.cls_row,
            parts=parts,
            **{name: None if each is None else each.data_ptr() for name, each in named.items()},
        )
        pairs = groups * frames * heads.tokens * row
        self.store_threads = threads_for(2 * pairs * heads.channels)
        self._attend_work = 2 * pairs * frames

    def store_frame(self, place: int, qkv_3gnc: Tensor) -> float:
        """Store a frame at a place and return its spread, like `TorchPasses.store_frame`."""
        if qkv_3gnc.stride(-1) != 1:
            qkv_3gnc = qkv_3gnc.contiguous()
        part, group, token, _ = qkv_3gnc.stride()
        return self.passes.store_frame(
            ctypes.byref(self._cache),
            place,
            qkv_3gnc,
            strides=(part, group, token),
            threads=self.store_threads,
        )

    def fill(
        self,
        update: NativeUpdate,
        *,
        place: int,
        qkv_3gnc: Tensor,
        slots_vt: np.ndarray | None,
        attended_vgc: Tensor | None,
        spreads_t: np.ndarray,
    ) -> None:
        """Fill in the structure of one update of this cache.

        The structure holds only addresses: the tensors and arrays must outlive it.

        Args:
            update: The structure to fill in.
            place: The frame's place.
            qkv_3gnc: The frame's projections from `StreamingHeads.project`; channels are
                contiguous.
            slots_vt: The slot of each place, int32, in at most `MOST_ORDERS` orders; None if the
                window is not due.
            attended_vgc: Receives the attended values; None if the window is not due.
            spreads_t: The spread of each place, float32; the update writes the frame's own.
        """
        update.cache = ctypes.addressof(self._cache)
        update.place, update.qkv = place, qkv_3gnc.data_ptr()
        update.part_stride, update.group_stride, update.token_stride, _ = qkv_3gnc.stride()
        update.spreads, update.put_threads = spreads_t.ctypes.data, self.store_threads
        if slots_vt is not None and attended_vgc is not None:
            update.slots, update.orders = slots_vt.ctypes.data, len(slots_vt)
            update.attended = attended_vgc.data_ptr()
            update.attend_threads = threads_for(len(slots_vt) * self._attend_work)

    def attended(self, slots_vt: Tensor, *, newest: int) -> Tensor:
        """Return the attended values of a window, summed over the averaged rows, `[v, g, c]`.

        No frame's spread may exceed `GREATEST_SPREAD`.

        Args:
            slots_vt: The orders of the window: the slot of each place.
            newest: Place of the newest frame in the first order.
        """
        slots_vt = slots_vt.int().contiguous()
        attended_vgc = torch.empty(len(slots_vt), self._heads.groups, self._heads.channels)
        # The first orders come last: each call overwrites the attention to the newest frame, and
        # the first order is the one to keep.
        for start in reversed(range(0, len(slots_vt), MOST_ORDERS)):
            some_vt = slots_vt[start : start + MOST_ORDERS]
            self.passes.attend(
                ctypes.byref(self._cache),
                some_vt,
                newest=newest,
                attended=attended_vgc[start : start + MOST_ORDERS],
                threads=threads_for(len(some_vt) * self._attend_work),
            )
        return attended_vgc
