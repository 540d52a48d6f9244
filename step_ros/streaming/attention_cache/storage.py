"""All that is kept of one camera's frames for the streaming heads, in memory that never grows.

Tokens i of a frame in slot r and j of one in slot s score `a_ij + b_is + c_rj + d_rs`: contents
with contents, and three parts that the slots' positions bring in. The first, the only one with an
entry for each pair of tokens, does not depend on the slots. So `exp(a_ij)` is kept for all pairs
of cached frames, and a window's row sums and column sums are matrix-vector products with it. Each
row of a block (a frame's tokens with another's) is shifted by its greatest score, so that
exponentials stay in range.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads

Kept = Literal['float32', 'bfloat16', 'none']

# Bytes of kept exponentials that a camera may take unless the user says otherwise: three tasks of
# DINOv2-B on 16 frames of 224 px fit.
MEMORY_BUDGET = 1536 * 2**20
# Up to here those of several cameras stay in a processor's cache, where half the bytes gain
# nothing.
_FLOAT32_BYTES = 4 * 2**20
# Rows of tokens are filled up to a multiple of this: what a processor computes with at once.
_LANES = 16
_DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}
_CONSTANTS = ('slot_gss', 'cls_slot_gs', 'row_weights_n')


def row_length(tokens: int) -> int:
    """Return how many entries a row of so many tokens takes."""
    return -(-tokens // _LANES) * _LANES


def exponentials_bytes(heads: StreamingHeads, kept: Kept) -> int:
    """Return the bytes that kept exponentials of one camera take."""
    entry = 0 if kept == 'none' else _DTYPES[kept].itemsize
    pairs = heads.frames**2 * heads.tokens * row_length(heads.tokens)
    return heads.groups * pairs * entry


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


@dataclass(frozen=True, kw_only=True)
class Exponentials:
    """The exponentials of all pairs of cached frames, and what slots and CLS add to the scores.

    `q`, `k` are a token's own query and key, `q(r)`, `k(s)` the positional parts of slots; queries
    are divided by the root of their channels. Rows of tokens lie `row_length` apart.

    Attributes:
        kept_gttnn: `exp(q_i k_j - shift)`: frame of the row, frame of the column; zero beyond the
            tokens.
        shift_gttn: Greatest score of each row in its block.
        row_gtsn: `b`, that is `q_i k(s)`, for each place and slot.
        column_gstn: `c`, that is `q(r) k_j`, for each slot and place.
        slot_gss: `d`, that is `q(r) k(s)`, a constant.
        cls_column_gtn: `q_i k_cls`; None without a global CLS token.
        cls_row_gtn: `q_cls k_j`; likewise.
        cls_slot_gs: `q(r) k_cls`, a constant.
        row_weights_n: What each row of a frame counts, a constant.
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
    """What is kept of T frames, each in a place, in which it stays while it slides over the slots.

    Attributes:
        q_gtnc: Their queries.
        k_gtcn: Their keys; zero beyond the tokens.
        v_gtnc: Their values.
        newest_gn: How much the newest frame was attended to in the last answer.
        exponentials: None where they are not kept.
    """

    q_gtnc: Tensor
    k_gtcn: Tensor
    v_gtnc: Tensor
    newest_gn: Tensor
    exponentials: Exponentials | None

    @property
    def bytes(self) -> int:
        """Memory of all this but constants."""
        kept = [self.q_gtnc, self.k_gtcn, self.v_gtnc, self.newest_gn]
        if self.exponentials is not None:
            kept += [
                tensor
                for name, tensor in vars(self.exponentials).items()
                if tensor is not None and name not in _CONSTANTS
            ]
        return sum(tensor.untyped_storage().nbytes() for tensor in kept)

    def put(self, place: int, qkv_3gnc: Tensor) -> None:
        """Copy a frame's queries, keys and values to a place."""
        q_gnc, k_gnc, v_gnc = qkv_3gnc
        self.q_gtnc[:, place] = q_gnc
        self.k_gtcn[:, place] = k_gnc.mT
        self.v_gtnc[:, place] = v_gnc


def allocate(heads: StreamingHeads, kept: Kept, *, by_row: bool = False) -> CacheTensors:
    """Take the memory for one camera.

    Args:
        heads: The heads.
        kept: How exponentials are kept.
        by_row: Whether all exponentials of a row lie side by side, and all keys of a channel, as
            the compiled passes read them; else those of a block do, and all channels of a key, as
            torch multiplies them.

    Raises:
        ValueError: Exponentials are to be kept with token-wise positions.
    """
    groups, frames, tokens, channels = heads.groups, heads.frames, heads.tokens, heads.channels
    device = heads.device

    def rows(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        full = torch.zeros(groups, *shape, row_length(tokens), dtype=dtype, device=device)
        return full[..., :tokens]

    def tokens_first() -> Tensor:
        return torch.zeros(groups, frames, tokens, channels, device=device)

    exponentials = None
    if kept != 'none':
        if not heads.frame_wise:
            raise ValueError("token-wise positions: exponentials cannot be kept; expected 'none'")
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
