# SPDX-License-Identifier: Apache-2.0
"""The memory of one camera's attention cache: it never grows.

Token i of a frame in slot r scores with token j of a frame in slot s

    a_ij + b_is + c_rj + d_rs        content-content, content-slot, slot-content, slot-slot

all over sqrt(channels). Only `a_ij` has an entry for each pair of tokens, and it does not depend
on the slots. So `exp(a_ij)` is kept for all pairs of cached frames. The row sums and column sums
of a window's attention are then matrix-vector products with it.

                column frame, by place
                  0     1     2
    row       0  E00   E01   E02       E is a block of n x n: exp(a_ij - shift_i).
    frame,    1  E10   E11   E12       A new frame at place 1 rewrites row 1 and column 1,
    by place  2  E20   E21   E22       2 T - 1 blocks. All others stay while frames slide.

The shift of a row in a block is the row's greatest score, so that exponentials stay in range.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads

Kept = Literal['float32', 'bfloat16', 'none']

# Default limit for the kept exponentials of a camera, in bytes. Three tasks of DINOv2-B on 16
# frames of 224 px fit.
MEMORY_BUDGET = 1536 * 2**20
# Up to this size, exponentials are kept as float32: those of several cameras fit into a
# processor's cache, where bfloat16 would save no time.
FLOAT32_LIMIT_BYTES = 4 * 2**20
# Rows of tokens are padded to a multiple of this, the width of a vector register in floats.
_LANES = 16
_DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}
_CONSTANTS = ('slot_gss', 'cls_slot_gs', 'row_weights_n')


def row_length(tokens: int) -> int:
    """Return how many entries a padded row of tokens takes."""
    return -(-tokens // _LANES) * _LANES


def exponentials_bytes(heads: StreamingHeads, kept: Kept) -> int:
    """Return the bytes of one camera's kept exponentials."""
    entry = 0 if kept == 'none' else _DTYPES[kept].itemsize
    pairs = heads.frames**2 * heads.tokens * row_length(heads.tokens)
    return heads.groups * pairs * entry


def choose_kept(heads: StreamingHeads, memory_budget: int) -> Kept:
    """Return how to keep exponentials.

    Args:
        heads: The streaming heads.
        memory_budget: Bytes that a camera's exponentials may take.

    Returns:
        `float32` if they are small, else `bfloat16`. `none` if the budget is too small, or if
        keeping them does not help: with token-wise positions, or if few rows are averaged.
    """
    # Kept exponentials cost the same for any number of averaged rows, blocks cost less for fewer.
    few_rows = heads.row_count * 4 < heads.frames * heads.tokens
    if few_rows or not heads.frame_wise:
        return 'none'
    if exponentials_bytes(heads, 'float32') <= min(memory_budget, FLOAT32_LIMIT_BYTES):
        return 'float32'
    return 'bfloat16' if exponentials_bytes(heads, 'bfloat16') <= memory_budget else 'none'


@dataclass(frozen=True, kw_only=True)
class Exponentials:
    """The exponentials of all pairs of cached frames, and the other parts of the scores.

    `q`, `k` are the query and key of a token's content, `q(r)`, `k(s)` those of a slot's position;
    queries are divided by the root of their channels. Rows of tokens lie `row_length` apart.

    Attributes:
        kept_gttnn: `exp(q_i k_j - shift_i)`, by the places of the row's and the column's frame;
            zero in the padding.
        shift_gttn: Greatest score of each row in its block.
        row_gtsn: `b_is = q_i k(s)`, for each place and slot.
        column_gstn: `c_rj = q(r) k_j`, for each slot and place.
        slot_gss: `d_rs = q(r) k(s)`; constant.
        cls_column_gtn: `q_i k_cls`; None without a global CLS token.
        cls_row_gtn: `q_cls k_j`; None without a global CLS token.
        cls_slot_gs: `q(r) k_cls`; constant.
        row_weights_n: Weight of each row of a frame, 1 if it is averaged, else 0; constant.
    """

    kept_gttnn: Tensor
    shift_gttn: Tensor
    row_gtsn: Tensor
    column_gstn: Tensor
    slot_gss: Tensor
    cls_column_gtn: Tensor | None
    cls_row_gtn: Tensor | None
    cls_slot_gs: Tensor
    row_weights_n: Tensor


@dataclass(frozen=True, kw_only=True)
class CacheTensors:
    """The tensors of T cached frames, by place.

    Attributes:
        q_gtnc: Queries of the contents.
        k_gtcn: Keys of the contents; zero in the padding.
        v_gtnc: Values of the contents.
        newest_gn: How much the last window attended to the tokens of its newest frame.
        exponentials: The kept exponentials; None if none are kept.
    """

    q_gtnc: Tensor
    k_gtcn: Tensor
    v_gtnc: Tensor
    newest_gn: Tensor
    exponentials: Exponentials | None

    @property
    def bytes(self) -> int:
        """Memory of all tensors but the constants."""
        kept = [self.q_gtnc, self.k_gtcn, self.v_gtnc, self.newest_gn]
        if self.exponentials is not None:
            kept += [
                tensor
                for name, tensor in vars(self.exponentials).items()
                if tensor is not None and name not in _CONSTANTS
            ]
        return sum(tensor.untyped_storage().nbytes() for tensor in kept)

    def store_frame(self, place: int, qkv_3gnc: Tensor) -> None:
        """Copy a frame's queries, keys and values to a place."""
        q_gnc, k_gnc, v_gnc = qkv_3gnc
        self.q_gtnc[:, place] = q_gnc
        self.k_gtcn[:, place] = k_gnc.mT
        self.v_gtnc[:, place] = v_gnc


def allocate(heads: StreamingHeads, kept: Kept, *, by_row: bool = False) -> CacheTensors:
    """Allocate the memory for one camera.

    Args:
        heads: The streaming heads.
        kept: How to keep exponentials.
        by_row: The layout in memory. True for the compiled passes: all exponentials of a row lie
            side by side, and so do all keys of a channel. False for torch's matrix products: all
            exponentials of a block lie together, and all channels of a key.

    Raises:
        ValueError: `kept` is not `none`, and the heads have token-wise positions.
    """
    groups, frames, tokens, channels = heads.groups, heads.frames, heads.tokens, heads.channels
    device = heads.device

    # The padding of a row is allocated, and zero, but the tensors do not show it.
    def rows(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        full = torch.zeros(groups, *shape, row_length(tokens), dtype=dtype, device=device)
        return full[..., :tokens]

    def tokens_first() -> Tensor:
        return torch.zeros(groups, frames, tokens, channels, device=device)

    exponentials = None
    if kept != 'none':
        if not heads.frame_wise:
            raise ValueError(
                f'kept={kept!r} with token-wise positions: exponentials cannot be kept; '
                "expected 'none'"
            )
        q_gsc, k_gsc = (part[:, :, 0] for part in heads.positions_gsmc[:2])
        cls_slot_gs = q_gsc.new_zeros(q_gsc.shape[:2])
        if heads.cls_gc is not None:
            cls_slot_gs = (q_gsc @ heads.cls_gc[1][..., None])[..., 0].contiguous()
        row_weights = torch.zeros(row_length(tokens), device=device)
        row_weights[:tokens][heads.rows] = 1.0
        exponentials = Exponentials(
            kept_gttnn=(
                rows(frames, tokens, frames, dtype=_DTYPES[kept]).transpose(2, 3)
                if by_row
                else rows(frames, frames, tokens, dtype=_DTYPES[kept])
            ),
            shift_gttn=rows(frames, frames),
            row_gtsn=rows(frames, frames),
            column_gstn=rows(frames, frames),
            slot_gss=(q_gsc @ k_gsc.mT).contiguous(),
            cls_column_gtn=None if heads.cls_gc is None else rows(frames),
            cls_row_gtn=None if heads.cls_gc is None else rows(frames),
            cls_slot_gs=cls_slot_gs,
            row_weights_n=row_weights[:tokens],
        )
    return CacheTensors(
        q_gtnc=tokens_first(),
        k_gtcn=rows(frames, channels) if by_row else tokens_first().mT,
        v_gtnc=tokens_first(),
        newest_gn=torch.zeros(groups, tokens, device=device),
        exponentials=exponentials,
    )
