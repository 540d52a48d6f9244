"""What the streaming heads keep of one camera's frames, and a window's answer from it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from step_ros.streaming.attention_cache.build import NativePasses
from step_ros.streaming.attention_cache.native import NativeCache
from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads
from step_ros.streaming.attention_cache.storage import Kept, allocate
from step_ros.streaming.attention_cache.torch_kernels import TorchPasses, column_sums

# What a row of a block loses below exp(-87) must not matter after it is multiplied by exp(c_rj):
# the greatest difference of c_rj within a frame that leaves such losses below exp(-27).
GREATEST_SPREAD = 60.0


class HeadCache:
    """Queries, keys, values, and perhaps exponentials, of one camera's frames, in fixed memory.

    A frame has a place, in which it stays while it slides from slot to slot.

    Args:
        heads: The heads.
        kept: How exponentials are kept.
        native: Compiled passes; None for torch.

    Attributes:
        spreads: Greatest difference of a positional score within the frame of each place; where
            one is above `GREATEST_SPREAD`, the window is computed in blocks instead.

    Raises:
        ValueError: Exponentials are to be kept with token-wise positions.
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
        """Memory of everything kept; it does not change."""
        own = 0 if self.native is None else self.native.bytes
        return self._tensors.bytes + own

    @property
    def native(self) -> NativeCache | None:
        """The compiled passes over what is kept; None where torch does the work."""
        return self._passes if isinstance(self._passes, NativeCache) else None

    @property
    def compiled(self) -> bool:
        """Whether compiled passes do the work."""
        return self._native is not None

    @property
    def bytes_per_task(self) -> int:
        """One task's part of the memory."""
        return self.bytes // self.heads.tasks

    @torch.inference_mode()
    def put(self, place: int, qkv_3gnc: Tensor) -> None:
        """Put a frame in a place, over the one that was there.

        Args:
            place: 0 to T - 1.
            qkv_3gnc: What `StreamingHeads.project` gives for it.
        """
        if self._passes is not None:
            self.spreads[place] = self._passes.put(place, qkv_3gnc)
            return
        self._tensors.put(place, qkv_3gnc)

    @torch.inference_mode()
    def logits(self, orders: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Answer for a full window in one or several orders.

        Args:
            orders: The places of the frames, oldest first.

        Returns:
            Logits of each task, `[v, k]`, one row for each order.
        """
        return self.heads.classify(self.attend(orders))

    @torch.inference_mode()
    def attend(self, orders: Sequence[Sequence[int]]) -> Tensor:
        """Return what `StreamingHeads.classify` takes for a full window, `[v, g, c]`.

        Args:
            orders: As for `logits`.
        """
        slots_vt = torch.from_numpy(self.slots(orders)).to(self.heads.device)
        attended_vgc = self._attended(slots_vt, newest=orders[0][-1])
        return attended_vgc.expand(len(orders), -1, -1)

    def slots(self, orders: Sequence[Sequence[int]]) -> np.ndarray:
        """Return the slot of each place in the orders that differ for these heads, `[v, t]`."""
        # Heads without positions say the same in every order.
        asked = orders if self.heads.order_aware else orders[:1]
        # numpy: for a few numbers torch takes twenty times as long.
        return np.argsort(np.array(asked), axis=1)

    def newest_attention(self, task: str) -> Tensor:
        """Return how much the tokens of the newest frame were attended to, `[n]`.

        That of the last answer, in the first of its orders; mean over attention heads and over
        the averaged rows, so that with the tokens of all other frames, and the global CLS token,
        they sum to one. Zero before the first answer.

        Raises:
            ValueError: There is no such task.
        """
        heads = self.heads
        if task not in heads.names:
            raise ValueError(f'no task {task!r}; there are {", ".join(heads.names)}')
        of_task_kgn = self._tensors.newest_gn.view(heads.tasks, -1, heads.tokens)
        return of_task_kgn[heads.names.index(task)].mean(dim=0) / heads.row_count

    def _attended(self, slots_vt: Tensor, *, newest: int) -> Tensor:
        """Return the sum of the attended values, `[v, g, c]`; slots are those of the places."""
        in_range = bool((self.spreads <= GREATEST_SPREAD).all())
        passes = self._passes if in_range else None
        if isinstance(passes, NativeCache):
            return passes.attended(slots_vt, newest=newest)
        if passes is not None:
            sums_vgtn, cls_vg = passes.column_sums(slots_vt)
        else:
            blocks = [self._in_blocks(slots_t) for slots_t in slots_vt]
            sums_vgtn = torch.stack([sums for sums, _ in blocks])
            cls_vg = torch.stack([cls for _, cls in blocks])
        self._tensors.newest_gn.copy_(sums_vgtn[0, :, newest])
        return self._values(sums_vgtn, cls_vg, slots_vt)

    def _in_blocks(self, slots_t: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the attention anew from cached queries and keys: `[g, t, n]`, and CLS, `[g]`."""
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
        """Weigh the values of contents, positions and the CLS token, `[v, g, c]`."""
        heads = self.heads
        sums_gvl = sums_vgtn.flatten(2).transpose(0, 1)
        out_gvc = sums_gvl @ self._tensors.v_gtnc.flatten(1, 2)
        positions_gvtmc = heads.positions_gsmc[2][:, slots_vt]
        weights_vgtm = sums_vgtn
        if positions_gvtmc.shape[3] == 1:
            weights_vgtm = sums_vgtn.sum(dim=-1, keepdim=True)
        out_vgc = out_gvc.transpose(0, 1) + torch.einsum(
            'vgtm,gvtmc->vgc', weights_vgtm, positions_gvtmc
        )
        if heads.cls_gc is not None:
            out_vgc = out_vgc + cls_vg[..., None] * heads.cls_gc[2]
        return out_vgc
