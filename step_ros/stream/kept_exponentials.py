"""Exponentials of scores between cached frames, kept while both slide through the window.

Tokens i of a frame in slot r and j of one in slot s score `a_ij + b_is + c_rj + d_rs`: contents
with contents, and three parts that the slots' positions bring in (see `PositionalParts`). The
first, the only one with an entry for each pair of tokens, does not depend on the slots. So
`exp(a_ij)` is kept for all pairs of cached frames, and a window's row sums and column sums are
matrix-vector products with it. Each row of a block (a frame's tokens with another's) is shifted by
its greatest score, so that exponentials stay in range.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from step_ros.stream.native import NativePasses

# What a row of a block loses below exp(-87) must not matter after it is multiplied by exp(c_rj):
# the greatest difference of c_rj within a frame that leaves such losses below exp(-27).
GREATEST_SPREAD = 60.0
# Elements of a temporary tensor: as many as the processor's caches like.
_CHUNK = {'cpu': 1 << 20, 'cuda': 1 << 27}


@dataclass(frozen=True, kw_only=True)
class PositionalParts:
    """What positions and the global CLS token add to the scores of cached frames.

    `q`, `k` are a token's own query and key, `q(r)`, `k(s)` the positional parts of slots; queries
    are divided by the root of their channels.

    Attributes:
        row_gtns: `b`, that is `q_i k(s)`, for each place and slot.
        column_gstn: `c`, that is `q(r) k_j`, for each slot and place.
        slot_gss: `d`, that is `q(r) k(s)`.
        cls_gtn: `q_i k_cls`; None without a global CLS token.
        cls_slot_gs: `q(r) k_cls`.
    """

    row_gtns: Tensor
    column_gstn: Tensor
    slot_gss: Tensor
    cls_gtn: Tensor | None
    cls_slot_gs: Tensor


class KeptExponentials:
    """The exponentials of all pairs of T cached frames, in fixed memory.

    Args:
        groups: Attention heads of all tasks (g).
        frames: Places in the cache (t).
        tokens: Tokens of a frame (n).
        dtype: float32 or bfloat16.
        device: Where they are kept.
        native: Compiled passes, for the CPU; None for torch.
    """

    def __init__(
        self,
        *,
        groups: int,
        frames: int,
        tokens: int,
        dtype: torch.dtype,
        device: torch.device,
        native: NativePasses | None = None,
    ) -> None:
        self.native = native
        shape = (groups, frames, frames, tokens)
        self.kept_gttnn = torch.zeros(*shape, tokens, dtype=dtype, device=device)
        self.shift_gttn = torch.zeros(shape, device=device)

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.kept_gttnn.nbytes + self.shift_gttn.nbytes

    def put(self, place: int, q_gtnc: Tensor, k_gtnc: Tensor) -> None:
        """Keep the blocks of the frame at this place with all others, both ways.

        Args:
            place: Where the frame is in the cache.
            q_gtnc: Queries of all cached frames, this one included.
            k_gtnc: Keys likewise.
        """
        groups, frames, tokens, _ = q_gtnc.shape
        step = max(1, _CHUNK[q_gtnc.device.type] // (frames * tokens * tokens))
        for start in range(0, groups, step):
            part = slice(start, start + step)
            q, k = q_gtnc[part], k_gtnc[part]
            rows_gntn = (q[:, place] @ k.flatten(1, 2).mT).view(-1, tokens, frames, tokens)
            self._keep(
                rows_gntn.transpose(1, 2),
                self.kept_gttnn[part, place],
                self.shift_gttn[part, place],
            )
            columns_gtnn = (q.flatten(1, 2) @ k[:, place].mT).view(-1, frames, tokens, tokens)
            self._keep(
                columns_gtnn, self.kept_gttnn[part, :, place], self.shift_gttn[part, :, place]
            )

    def _keep(self, scores_gtnn: Tensor, kept_gtnn: Tensor, shift_gtn: Tensor) -> None:
        if self.native is not None:
            self.native.keep(scores_gtnn, kept=kept_gtnn, shifts=shift_gtn)
            return
        most_gtn1 = scores_gtnn.amax(dim=-1, keepdim=True)
        shift_gtn.copy_(most_gtn1[..., 0])
        kept_gtnn.copy_((scores_gtnn - most_gtn1).exp_())

    def column_sums(
        self, parts: PositionalParts, *, row_weights_n: Tensor, slots_vt: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the attention weights of all rows of the cached frames.

        The differences of `c` within a frame must not exceed `GREATEST_SPREAD`.

        Args:
            parts: What is added to the scores.
            row_weights_n: What each row of a frame counts.
            slots_vt: Orders of the window, one or two: the slot of each place, int32.

        Returns:
            How much each cached token is attended to, `[v, g, t, n]`, and the CLS token, `[v, g]`.
        """
        if self.native is not None:
            return self._column_sums_native(parts, row_weights_n, slots_vt)
        sums = [self._column_sums_torch(parts, row_weights_n, slots_t) for slots_t in slots_vt]
        return torch.stack([each[0] for each in sums]), torch.stack([each[1] for each in sums])

    def _column_sums_native(
        self, parts: PositionalParts, row_weights_n: Tensor, slots_vt: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert self.native is not None
        groups, frames, _, tokens = self.shift_gttn.shape
        sums_tvgtn = torch.empty(frames, len(slots_vt), groups, frames, tokens)
        cls_tvg = torch.empty(frames, len(slots_vt), groups)
        self.native.sum_columns(
            self.kept_gttnn,
            shifts=self.shift_gttn,
            row_parts=parts.row_gtns,
            column_parts=parts.column_gstn,
            slot_parts=parts.slot_gss,
            cls_columns=parts.cls_gtn,
            cls_slots=parts.cls_slot_gs,
            row_weights=row_weights_n,
            slots=slots_vt,
            sums=sums_tvgtn,
            cls_sums=cls_tvg,
        )
        return sums_tvgtn.sum(dim=0), cls_tvg.sum(dim=0)

    def _column_sums_torch(
        self, parts: PositionalParts, row_weights_n: Tensor, slots_t: Tensor
    ) -> tuple[Tensor, Tensor]:
        groups, frames, _, tokens = self.shift_gttn.shape
        slots_t = slots_t.long()
        column_gttn = parts.column_gstn[:, slots_t]  # by the place of the row
        most_gtt = column_gttn.amax(dim=-1)
        column_gttn = (column_gttn - most_gtt[..., None]).exp_()
        level_gtt = most_gtt + parts.slot_gss[:, slots_t][:, :, slots_t]
        # The logarithm of what stands before each block's share of a row.
        factor_gttn = parts.row_gtns[..., slots_t].transpose(2, 3) + level_gtt[..., None]
        factor_gttn += self.shift_gttn
        most_gtn = factor_gttn.amax(dim=2)
        cls_gtn = torch.zeros_like(most_gtn)
        if parts.cls_gtn is not None:
            at_cls_gtn = parts.cls_gtn + parts.cls_slot_gs[:, slots_t, None]
            most_gtn = torch.maximum(most_gtn, at_cls_gtn)
            cls_gtn = (at_cls_gtn - most_gtn).exp_()
        factor_gttn = (factor_gttn - most_gtn[:, :, None]).exp_()

        sums_gtn = torch.zeros_like(most_gtn)
        cls_g = torch.zeros_like(most_gtn[:, 0, 0])
        step = max(1, _CHUNK[sums_gtn.device.type] // (frames * tokens * tokens))
        # A chunk is some groups with the rows of one frame, or of all frames where they are few.
        span = min(frames, max(1, step // groups))
        step = max(1, step // span)
        for start in range(0, groups, step):
            for first in range(0, frames, span):
                at = (slice(start, start + step), slice(first, first + span))
                kept = self.kept_gttnn[at].float()
                column = column_gttn[at]
                factor = factor_gttn[at]
                row_sums = (factor * (kept @ column[..., None])[..., 0]).sum(dim=2)
                share = row_weights_n / (row_sums + cls_gtn[at])
                factor = factor * share[:, :, None]
                sums = (factor[..., None, :] @ kept)[..., 0, :] * column
                sums_gtn[at[0]] += sums.sum(dim=1)
                cls_g[at[0]] += (share * cls_gtn[at]).sum(dim=(1, 2))
        return sums_gtn, cls_g
