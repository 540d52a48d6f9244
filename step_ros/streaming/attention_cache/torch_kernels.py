# SPDX-License-Identifier: Apache-2.0
"""Sums of attention weights in torch: from kept exponentials, or in blocks of rows.

`mean_i(A_i V) = (mean_i A_i) V`: a head that averages its attended tokens needs of the attention
matrix A only its column sums, that is how much each token is attended to. `TorchPasses` computes
them from kept exponentials (`storage.py`); `column_sums` computes them from queries and keys, for
any scores. Neither forms the N x N matrix. The compiled passes (`native.py`) do the same faster;
these run on any device.
"""

import torch
from torch import Tensor

from step_ros.streaming.attention_cache.passes import NativePasses
from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads
from step_ros.streaming.attention_cache.storage import CacheTensors, Exponentials

# Elements of a temporary tensor over kept exponentials: on the CPU few enough for its caches, on a
# GPU enough to keep it busy.
_CHUNK = {'cpu': 1 << 20, 'cuda': 1 << 27}
# Scores of a block of rows in `column_sums`: few enough for a processor's caches, many enough to
# be worth a matrix product.
BLOCK_ELEMENTS = 1 << 20


class TorchPasses:
    """Stores frames with their exponentials, and sums the attention of windows.

    Args:
        heads: The streaming heads.
        tensors: The tensors of the cache; they keep exponentials.
    """

    def __init__(self, heads: StreamingHeads, tensors: CacheTensors) -> None:
        assert tensors.exponentials is not None
        self._heads, self._tensors = heads, tensors
        self._exponentials: Exponentials = tensors.exponentials

    def store_frame(self, place: int, qkv_3gnc: Tensor) -> float:
        """Store a frame at a place, over the one that was there; return its spread.

        Args:
            place: The place, 0 to T - 1.
            qkv_3gnc: The frame's projections from `StreamingHeads.project`.

        Returns:
            The greatest difference of the positional scores `c_rj` within the frame.
        """
        kept = self._exponentials
        self._tensors.store_frame(place, qkv_3gnc)
        q_gnc, k_gnc, _ = qkv_3gnc
        q_gsc, k_gsc = (part[:, :, 0] for part in self._heads.positions_gsmc[:2])
        column_gsn = q_gsc @ k_gnc.mT
        kept.row_gtsn[:, place] = k_gsc @ q_gnc.mT
        kept.column_gstn[:, :, place] = column_gsn
        if (cls_gc := self._heads.cls_gc) is not None:
            assert kept.cls_column_gtn is not None
            assert kept.cls_row_gtn is not None
            kept.cls_column_gtn[:, place] = (q_gnc @ cls_gc[1][..., None])[..., 0]
            kept.cls_row_gtn[:, place] = (k_gnc @ cls_gc[0][..., None])[..., 0]
        self._store_blocks(place)
        return float((column_gsn.amax(dim=-1) - column_gsn.amin(dim=-1)).max())

    def _store_blocks(self, place: int) -> None:
        """Compute the blocks of the frame at this place: its row and its column of blocks."""
        kept = self._exponentials
        groups, frames, tokens, _ = self._tensors.q_gtnc.shape
        step = max(1, _CHUNK[kept.kept_gttnn.device.type] // (frames * tokens * tokens))
        for start in range(0, groups, step):
            part = slice(start, start + step)
            q_gtnc, k_gtnc = self._tensors.q_gtnc[part], self._tensors.k_gtcn[part].mT
            rows_gnl = q_gtnc[:, place] @ k_gtnc.flatten(1, 2).mT
            columns_gln = q_gtnc.flatten(1, 2) @ k_gtnc[:, place].mT
            for scores_gtnn, at in (
                (rows_gnl.view(-1, tokens, frames, tokens).transpose(1, 2), (part, place)),
                (columns_gln.view(-1, frames, tokens, tokens), (part, slice(None), place)),
            ):
                most_gtn1 = scores_gtnn.amax(dim=-1, keepdim=True)
                kept.shift_gttn[at] = most_gtn1[..., 0]
                kept.kept_gttnn[at] = (scores_gtnn - most_gtn1).exp_()

    def column_sums(self, slots_vt: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the attention weights of all averaged rows, in each order of a window.

        No frame's spread may exceed `GREATEST_SPREAD`.

        Args:
            slots_vt: The orders of the window: the slot of each place.

        Returns:
            How much each cached token is attended to, `[v, g, t, n]`, and the CLS token, `[v, g]`.
        """
        sums = [self._sum_order(slots_t) for slots_t in slots_vt]
        sums_vgtn = torch.stack([each[0] for each in sums])
        cls_vg = torch.stack([each[1] for each in sums])
        if self._heads.cls_row:
            row_vgl = self._cls_row(slots_vt)
            sums_vgtn += row_vgl[..., :-1].reshape(sums_vgtn.shape)
            cls_vg += row_vgl[..., -1]
        return sums_vgtn, cls_vg

    def _sum_order(self, slots_t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the column sums in one order, without the CLS token's own row.

        With E the kept exponentials, the row i of a frame in slot r has in its block with slot s

            weights_ij = factor_is E_ij column_rj / Z_i
            column_rj  = exp(c_rj - max_j c_rj)
            factor_is  = exp(b_is + d_rs + shift_is + max_j c_rj - greatest of the row)
            Z_i        = sum over s and j of factor_is E_ij column_rj

        All exponents are at most 0, so nothing overflows.
        """
        kept = self._exponentials
        groups, frames, _, tokens = kept.shift_gttn.shape
        column_gttn = kept.column_gstn[:, slots_t]  # [g, place of the row, of the column, n]
        most_gtt = column_gttn.amax(dim=-1)
        column_gttn = (column_gttn - most_gtt[..., None]).exp_()
        level_gtt = most_gtt + kept.slot_gss[:, slots_t][:, :, slots_t]
        # factor_is as a logarithm, until the greatest of each row is known.
        factor_gttn = kept.row_gtsn[:, :, slots_t] + level_gtt[..., None]
        factor_gttn += kept.shift_gttn
        most_gtn = factor_gttn.amax(dim=2)
        cls_gtn = torch.zeros_like(most_gtn)
        if kept.cls_column_gtn is not None:
            at_cls_gtn = kept.cls_column_gtn + kept.cls_slot_gs[:, slots_t, None]
            most_gtn = torch.maximum(most_gtn, at_cls_gtn)
            cls_gtn = (at_cls_gtn - most_gtn).exp_()
        factor_gttn = (factor_gttn - most_gtn[:, :, None]).exp_()

        sums_gtn = torch.zeros_like(most_gtn)
        cls_g = torch.zeros_like(most_gtn[:, 0, 0])
        step = max(1, _CHUNK[sums_gtn.device.type] // (frames * tokens * tokens))
        # A chunk is some groups with the rows of one frame, or of several frames if they fit.
        span = min(frames, max(1, step // groups))
        step = max(1, step // span)
        for start in range(0, groups, step):
            for first in range(0, frames, span):
                at = (slice(start, start + step), slice(first, first + span))
                exponentials = kept.kept_gttnn[at].float()
                column = column_gttn[at]
                factor = factor_gttn[at]
                # Z_i, without the CLS token's column.
                row_sums = (factor * (exponentials @ column[..., None])[..., 0]).sum(dim=2)
                share = kept.row_weights_n / (row_sums + cls_gtn[at])
                factor = factor * share[:, :, None]
                sums = (factor[..., None, :] @ exponentials)[..., 0, :] * column
                sums_gtn[at[0]] += sums.sum(dim=1)
                cls_g[at[0]] += (share * cls_gtn[at]).sum(dim=(1, 2))
        return sums_gtn, cls_g

    def _cls_row(self, slots_vt: Tensor) -> Tensor:
        """Return the global CLS token's attention weights, itself last, `[v, g, t * n + 1]`."""
        heads, own_gtn = self._heads, self._exponentials.cls_row_gtn
        assert own_gtn is not None
        slots_vgt = heads.cls_slots_gs[:, slots_vt].transpose(0, 1)
        scores_vgtn = own_gtn + slots_vgt[..., None]
        scores_vgl = torch.cat(
            [scores_vgtn.flatten(2), heads.cls_itself_g1.expand(len(slots_vt), -1, -1)], dim=-1
        )
        return scores_vgl.softmax(dim=-1)


def column_sums(
    q_grd: Tensor, k_gld: Tensor, weights_r: Tensor, *, native: NativePasses | None = None
) -> Tensor:
    """Return the weighted sum of the rows of `softmax(q k^T)`, `[g, l]`, in blocks of rows.

    Args:
        q_grd: Queries, already divided by the root of their channels.
        k_gld: Keys.
        weights_r: Weight of each query's row.
        native: The compiled passes, for tensors on the CPU; None for torch.
    """
    groups, length, _ = k_gld.shape
    sums_gl = q_grd.new_zeros(groups, length)
    if native is not None:
        rows = max(16, BLOCK_ELEMENTS // length)
        for q_rd, k_ld, sums_l in zip(q_grd, k_gld, sums_gl, strict=True):
            for start in range(0, len(q_rd), rows):
                scores_rl = q_rd[start : start + rows] @ k_ld.T
                native.softmax_sums(
                    scores_rl, weights=weights_r[start : start + rows], sums=sums_l
                )
        return sums_gl
    rows = max(16, BLOCK_ELEMENTS // (length * groups))
    for start in range(0, q_grd.shape[1], rows):
        attention_grl = (q_grd[:, start : start + rows] @ k_gld.mT).softmax(dim=-1)
        sums_gl += torch.matmul(weights_r[start : start + rows], attention_grl)
    return sums_gl
