# SPDX-License-Identifier: Apache-2.0
"""The attention cache of one camera: stores frames and attends over windows of them.

There are three ways to sum a window's attention, all exact to rounding error:

    kept exponentials, compiled    NativeCache (native.py), on the CPU
    kept exponentials, torch       TorchPasses (torch_kernels.py), on any device
    in blocks, nothing kept        HeadCache.sum_in_blocks, from queries and keys

The first two need memory (`storage.choose_kept`) and scores in range (`GREATEST_SPREAD`). A window
that is out of range takes the third way.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from step_ros.streaming.attention_cache.native import NativeCache
from step_ros.streaming.attention_cache.passes import NativePasses
from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads
from step_ros.streaming.attention_cache.storage import Kept, allocate
from step_ros.streaming.attention_cache.torch_kernels import TorchPasses, column_sums

# The greatest difference of the positional scores c_rj within a frame for which kept exponentials
# are exact. Each row of kept exponentials is shifted to a maximum of 1, so that entries below
# exp(-87) are lost to float32. Multiplied by exp(c_rj), a lost entry can grow by exp(60) against
# the row's maximum and still stays below exp(-27): less than float32 resolves.
GREATEST_SPREAD = 60.0


class HeadCache:
    """Queries, keys, values and perhaps exponentials of one camera's frames, in fixed memory.

    A frame has a place from 0 to T - 1 and keeps it while it slides from slot to slot.

    Args:
        heads: The streaming heads.
        kept: How to keep exponentials.
        native: The compiled passes; None for torch.

    Attributes:
        heads: The streaming heads.
        kept: How exponentials are kept.
        spreads: Spread of the frame at each place, `[t]`: the greatest difference of its
            positional scores. A spread above `GREATEST_SPREAD` means that its windows are summed
            in blocks.

    Raises:
        ValueError: `kept` is not `none`, and the heads have token-wise positions.
    """

    def __init__(
        self, heads: StreamingHeads, *, kept: Kept, native: NativePasses | None = None
    ) -> None:
        self.heads = heads
        self.kept = kept
        self.spreads = np.zeros(heads.frames, dtype=np.float32)
        self._native = native
        self._tensors = allocate(heads, kept, by_row=native is not None)
        self._passes: TorchPasses | NativeCache | None = None
        if kept != 'none':
            self._passes = (
                TorchPasses(heads, self._tensors)
                if native is None
                else NativeCache(native, heads, self._tensors)
            )

    @property
    def bytes(self) -> int:
        """Memory of the cache; it does not change."""
        own = 0 if self.native is None else self.native.bytes
        return self._tensors.bytes + own

    @property
    def native(self) -> NativeCache | None:
        """The compiled passes over the kept exponentials; None if torch or blocks do the work."""
        return self._passes if isinstance(self._passes, NativeCache) else None

    @property
    def compiled(self) -> bool:
        """Whether compiled passes do the work, over kept exponentials or in blocks."""
        return self._native is not None

    @property
    def bytes_per_task(self) -> int:
        """One task's share of the memory."""
        return self.bytes // self.heads.tasks

    @torch.inference_mode()
    def store_frame(self, place: int, qkv_3gnc: Tensor) -> None:
        """Store a frame at a place, over the one that was there.

        Args:
            place: The place, 0 to T - 1.
            qkv_3gnc: The frame's projections from `StreamingHeads.project`.
        """
        if self._passes is not None:
            self.spreads[place] = self._passes.store_frame(place, qkv_3gnc)
            return
        self._tensors.store_frame(place, qkv_3gnc)

    @torch.inference_mode()
    def logits(self, orders: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Return the logits of each task for a full window, `[v, k]`, a row for each order.

        Args:
            orders: The orders of the window; each has the places of the frames, oldest first.
        """
        return self.heads.classify(self.attend(orders))

    @torch.inference_mode()
    def attend(self, orders: Sequence[Sequence[int]]) -> Tensor:
        """Return the attended values of a full window for `StreamingHeads.classify`, `[v, g, c]`.

        Args:
            orders: The orders of the window; each has the places of the frames, oldest first.
        """
        slots_vt = torch.from_numpy(self.slots(orders)).to(self.heads.device)
        attended_vgc = self._attend_slots(slots_vt, newest=orders[0][-1])
        return attended_vgc.expand(len(orders), -1, -1)

    def slots(self, orders: Sequence[Sequence[int]]) -> np.ndarray:
        """Return the slot of each place in each distinct order, `[v, t]`.

        An order lists places by slot; its inverse lists slots by place:

            order   (2, 0, 1)   place 2 is the oldest
            slots   (1, 2, 0)   place 0 is in slot 1
        """
        # Heads without positions give the same scores for every order: one is enough.
        distinct = orders if self.heads.order_aware else orders[:1]
        # argsort inverts a permutation. numpy, because torch takes twenty times as long for so
        # few numbers.
        return np.argsort(np.array(distinct), axis=1)

    def newest_attention(self, task: str) -> Tensor:
        """Return how much the last window attended to each token of its newest frame, `[n]`.

        The first order of the window counts. The weights are means over attention heads and over
        the averaged rows. So they sum to one together with the weights of all other frames and of
        the global CLS token. They are zero before the first window.

        Args:
            task: Name of the task.

        Raises:
            ValueError: There is no task of this name.
        """
        heads = self.heads
        if task not in heads.names:
            raise ValueError(f'no task {task!r}; there are {", ".join(heads.names)}')
        of_task_kgn = self._tensors.newest_gn.view(heads.tasks, -1, heads.tokens)
        return of_task_kgn[heads.names.index(task)].mean(dim=0) / heads.row_count

    def _attend_slots(self, slots_vt: Tensor, *, newest: int) -> Tensor:
        """Return the attended values, summed over the averaged rows, `[v, g, c]`."""
        # NaN compares false, so a frame of NaN goes the way in blocks.
        in_range = bool((self.spreads <= GREATEST_SPREAD).all())
        passes = self._passes if in_range else None
        if isinstance(passes, NativeCache):
            return passes.attended(slots_vt, newest=newest)
        if passes is not None:
            sums_vgtn, cls_vg = passes.column_sums(slots_vt)
        else:
            blocks = [self.sum_in_blocks(slots_t) for slots_t in slots_vt]
            sums_vgtn = torch.stack([sums for sums, _ in blocks])
            cls_vg = torch.stack([cls for _, cls in blocks])
        self._tensors.newest_gn.copy_(sums_vgtn[0, :, newest])
        return self._values(sums_vgtn, cls_vg, slots_vt)

    def sum_in_blocks(self, slots_t: Tensor) -> tuple[Tensor, Tensor]:
        """Sum a window's attention without kept exponentials, in one order.

        Args:
            slots_t: The slot of each place.

        Returns:
            How much each cached token is attended to, `[g, t, n]`, and the CLS token, `[g]`.
        """
        heads = self.heads
        q_position, k_position, _ = (part[:, slots_t] for part in heads.positions_gsmc)
        rows = heads.rows
        if q_position.shape[2] > 1:
            q_position = q_position[:, :, rows]
        q_grc = (self._tensors.q_gtnc[:, :, rows] + q_position).flatten(1, 2)
        k_glc = (self._tensors.k_gtcn.mT + k_position).flatten(1, 2)
        if heads.cls_gc is not None:
            k_glc = torch.cat([k_glc, heads.cls_gc[1][:, None]], dim=1)
            if heads.cls_row:
                q_grc = torch.cat([q_grc, heads.cls_gc[0][:, None]], dim=1)
        weights_r = q_grc.new_ones(q_grc.shape[1])
        sums_gl = column_sums(q_grc, k_glc, weights_r, native=self._native)
        shape = self._tensors.q_gtnc.shape[:3]
        if heads.cls_gc is None:
            return sums_gl.view(shape), sums_gl.new_zeros(heads.groups)
        return sums_gl[:, :-1].reshape(shape), sums_gl[:, -1]

    def _values(self, sums_vgtn: Tensor, cls_vg: Tensor, slots_vt: Tensor) -> Tensor:
        """Return the values weighted by the attention sums, `[v, g, c]`.

        A value is that of the content plus that of the slot's position; the global CLS token has
        a value of its own.
        """
        heads = self.heads
        sums_gvl = sums_vgtn.flatten(2).transpose(0, 1)
        out_gvc = sums_gvl @ self._tensors.v_gtnc.flatten(1, 2)
        positions_gvtmc = heads.positions_gsmc[2][:, slots_vt]
        # Frame-wise positions have one value for all tokens of a frame: add up its weights first.
        weights_vgtm = sums_vgtn
        if positions_gvtmc.shape[3] == 1:
            weights_vgtm = sums_vgtn.sum(dim=-1, keepdim=True)
        out_vgc = out_gvc.transpose(0, 1) + torch.einsum(
            'vgtm,gvtmc->vgc', weights_vgtm, positions_gvtmc
        )
        if heads.cls_gc is not None:
            out_vgc = out_vgc + cls_vg[..., None] * heads.cls_gc[2]
        return out_vgc
