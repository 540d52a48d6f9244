"""What the streaming heads keep of one camera's frames, and a window's answer from it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from step_ros.stream.column_sums import column_sums
from step_ros.stream.kept_exponentials import GREATEST_SPREAD, KeptExponentials, PositionalParts
from step_ros.stream.native import NativePasses
from step_ros.stream.streaming_heads import StreamingHeads

Kept = Literal['float32', 'bfloat16', 'none']

# Bytes of kept exponentials that a camera may take unless the user says otherwise: three tasks of
# DINOv2-B on 16 frames of 224 px fit.
MEMORY_BUDGET = 1536 * 2**20
# Up to here exponentials stay in a processor's cache, where half the bytes gain nothing.
_FLOAT32_BYTES = 16 * 2**20


def exponentials_bytes(heads: StreamingHeads, kept: Kept) -> int:
    """Return the bytes that kept exponentials of one camera take."""
    entry = {'float32': 4, 'bfloat16': 2, 'none': 0}[kept]
    return heads.groups * (heads.frames * heads.tokens) ** 2 * entry


def choose_kept(heads: StreamingHeads, memory_budget: int) -> Kept:
    """Decide how exponentials are kept.

    Args:
        heads: The heads.
        memory_budget: Bytes that a camera's exponentials may take.

    Returns:
        `float32` where they are small, else `bfloat16`, else `none` where the budget is too small
        or they would not help: with token-wise positions, or when few tokens are averaged.
    """
    few_rows = heads.row_count * 4 < heads.frames * heads.tokens
    if few_rows or not heads.frame_wise:
        return 'none'
    if exponentials_bytes(heads, 'float32') <= min(memory_budget, _FLOAT32_BYTES):
        return 'float32'
    return 'bfloat16' if exponentials_bytes(heads, 'bfloat16') <= memory_budget else 'none'


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
        self._native = native
        shape = (heads.groups, heads.frames, heads.tokens)
        device = heads.device
        self._q_gtnc, self._k_gtnc, self._v_gtnc = (
            torch.zeros(*shape, heads.channels, device=device) for _ in range(3)
        )
        self._newest_gn = torch.zeros(heads.groups, heads.tokens, device=device)
        self.spreads = [0.0] * heads.frames
        self._exponentials: KeptExponentials | None = None
        if kept == 'none':
            return
        if not heads.frame_wise:
            raise ValueError("token-wise positions: exponentials cannot be kept; expected 'none'")
        self._exponentials = KeptExponentials(
            groups=heads.groups,
            frames=heads.frames,
            tokens=heads.tokens,
            dtype=torch.float32 if kept == 'float32' else torch.bfloat16,
            device=device,
            native=native,
        )
        q_gsc, k_gsc = (part[:, :, 0] for part in heads.positions_gsmc[:2])
        cls_slot_gs = q_gsc.new_zeros(q_gsc.shape[:2])
        if heads.cls_gc is not None:
            cls_slot_gs = (q_gsc @ heads.cls_gc[1][..., None])[..., 0].contiguous()
        self._parts = PositionalParts(
            row_gtns=torch.zeros(*shape, heads.frames, device=device),
            column_gstn=torch.zeros(
                heads.groups, heads.frames, heads.frames, heads.tokens, device=device
            ),
            slot_gss=(q_gsc @ k_gsc.mT).contiguous(),
            cls_gtn=None if heads.cls_gc is None else torch.zeros(shape, device=device),
            cls_slot_gs=cls_slot_gs,
        )
        self._row_weights_n = torch.zeros(heads.tokens, device=device)
        self._row_weights_n[heads.rows] = 1.0

    @property
    def bytes(self) -> int:
        """Memory of everything kept; it does not change."""
        total = self._q_gtnc.nbytes + self._k_gtnc.nbytes + self._v_gtnc.nbytes
        total += self._newest_gn.nbytes
        if self._exponentials is not None:
            parts = self._parts
            total += self._exponentials.bytes + parts.row_gtns.nbytes + parts.column_gstn.nbytes
            total += 0 if parts.cls_gtn is None else parts.cls_gtn.nbytes
        return total

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
        for cache_gtnc, part_gnc in zip(
            (self._q_gtnc, self._k_gtnc, self._v_gtnc), qkv_3gnc, strict=True
        ):
            cache_gtnc[:, place] = part_gnc
        if self._exponentials is None:
            return
        parts = self._parts
        q_gnc, k_gnc = self._q_gtnc[:, place], self._k_gtnc[:, place]
        q_gsc, k_gsc = (part[:, :, 0] for part in self.heads.positions_gsmc[:2])
        column_gsn = q_gsc @ k_gnc.mT
        parts.row_gtns[:, place] = q_gnc @ k_gsc.mT
        parts.column_gstn[:, :, place] = column_gsn
        if self.heads.cls_gc is not None and parts.cls_gtn is not None:
            parts.cls_gtn[:, place] = (q_gnc @ self.heads.cls_gc[1][..., None])[..., 0]
        self.spreads[place] = float((column_gsn.amax(dim=-1) - column_gsn.amin(dim=-1)).max())
        self._exponentials.put(place, self._q_gtnc, self._k_gtnc)

    @torch.inference_mode()
    def logits(self, orders: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Answer for a full window in one or several orders.

        Args:
            orders: The places of the frames, oldest first.

        Returns:
            Logits of each task, `[v, k]`, one row for each order.
        """
        # Heads without positions say the same in every order.
        asked = orders if self.heads.order_aware else orders[:1]
        slots_vt = torch.tensor(asked, device=self.heads.device).argsort(dim=1)
        logits = self.heads.classify(self._attended(slots_vt, newest=orders[0][-1]))
        return {task: said_vk.expand(len(orders), -1) for task, said_vk in logits.items()}

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
        of_task_kgn = self._newest_gn.view(heads.tasks, -1, heads.tokens)
        return of_task_kgn[heads.names.index(task)].mean(dim=0) / heads.row_count

    def _attended(self, slots_vt: Tensor, *, newest: int) -> Tensor:
        """Return the sum of the attended values, `[v, g, c]`; slots are those of the places."""
        heads = self.heads
        in_range = all(spread <= GREATEST_SPREAD for spread in self.spreads)
        if self._exponentials is not None and in_range:
            sums_vgtn, cls_vg = self._exponentials.column_sums(
                self._parts, row_weights_n=self._row_weights_n, slots_vt=slots_vt.int()
            )
            if heads.cls_row:
                row_vgl = self._cls_row(slots_vt)
                sums_vgtn += row_vgl[..., :-1].reshape(sums_vgtn.shape)
                cls_vg += row_vgl[..., -1]
        else:
            blocks = [self._in_blocks(slots_t) for slots_t in slots_vt]
            sums_vgtn = torch.stack([sums for sums, _ in blocks])
            cls_vg = torch.stack([cls for _, cls in blocks])
        self._newest_gn.copy_(sums_vgtn[0, :, newest])
        return self._values(sums_vgtn, cls_vg, slots_vt)

    def _cls_row(self, slots_vt: Tensor) -> Tensor:
        """Return where the global CLS token attends, `[v, g, t * n + 1]`: itself last."""
        heads = self.heads
        assert heads.cls_gc is not None
        own_gtn = (self._k_gtnc @ heads.cls_gc[0][:, None, :, None])[..., 0]
        slots_vgt = heads.cls_slots_gs[:, slots_vt].transpose(0, 1)
        scores_vgtn = own_gtn + slots_vgt[..., None]
        scores_vgl = torch.cat(
            [scores_vgtn.flatten(2), heads.cls_itself_g1.expand(len(slots_vt), -1, -1)], dim=-1
        )
        return scores_vgl.softmax(dim=-1)

    def _in_blocks(self, slots_t: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the attention anew from cached queries and keys: `[g, t, n]`, and CLS, `[g]`."""
        heads = self.heads
        q_position, k_position, _ = (part[:, slots_t] for part in heads.positions_gsmc)
        rows = heads.rows
        if q_position.shape[2] > 1:
            q_position = q_position[:, :, rows]
        q_grc = (self._q_gtnc[:, :, rows] + q_position).flatten(1, 2)
        k_glc = (self._k_gtnc + k_position).flatten(1, 2)
        if heads.cls_gc is not None:
            k_glc = torch.cat([k_glc, heads.cls_gc[1][:, None]], dim=1)
            if heads.cls_row:
                q_grc = torch.cat([q_grc, heads.cls_gc[0][:, None]], dim=1)
        weights_r = q_grc.new_ones(q_grc.shape[1])
        sums_gl = column_sums(q_grc, k_glc, weights_r, native=self._native)
        shape = self._k_gtnc.shape[:3]
        if heads.cls_gc is None:
            return sums_gl.view(shape), sums_gl.new_zeros(heads.groups)
        return sums_gl[:, :-1].reshape(shape), sums_gl[:, -1]

    def _values(self, sums_vgtn: Tensor, cls_vg: Tensor, slots_vt: Tensor) -> Tensor:
        """Weigh the values of contents, positions and the CLS token, `[v, g, c]`."""
        heads = self.heads
        sums_gvl = sums_vgtn.flatten(2).transpose(0, 1)
        out_gvc = sums_gvl @ self._v_gtnc.flatten(1, 2)
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
