# SPDX-License-Identifier: Apache-2.0
"""Positional encodings: embeddings by which a head knows the order of the frames."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from step_ros.model.tokens import check_choice

Positions = Literal['learnable', 'fixed', 'hybrid', 'token-wise', 'after', 'none']

# The papers do not give the initialisation of the embeddings; this is the usual one for ViTs.
EMBEDDING_STD = 0.02


def sinusoids(frames: int, width: int) -> Tensor:
    """Return the fixed encoding of Vaswani et al. 2017, Sec. 3.5, `[t, d]`.

    Each even channel holds the sine of an angle, the odd channel after it the cosine.
    """
    steps_t1 = torch.arange(frames, dtype=torch.float64)[:, None]
    pairs = torch.arange(math.ceil(width / 2), dtype=torch.float64)
    angles = steps_t1 * torch.exp(-math.log(10000.0) * 2 * pairs / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width].float()


class FramePositions(nn.Module):
    """Embeddings that are added to the tokens of each frame.

    Source: `t_i` of Sec. III.A; its variants in Tables 11 (fixed, hybrid), 14 (token-wise) and 18
    (after the attention) of the longer STEP paper.

    Args:
        kind: `learnable` (one row per frame, the papers' STEP), `fixed` (sinusoids), `hybrid`
            (their sum), `token-wise` (one row per token of the window), or `after` (learnable
            rows for the output of the attention).
        width: Channels of a token (d).
        frames: Frames in a window (T).
        tokens: Tokens of a frame; only `token-wise` needs it.
        std: Initial standard deviation of the learnable rows. The papers do not give it.

    Attributes:
        learned_td: Learnable rows, `[t, d]` (`[t, n, d]` token-wise); None for `fixed`.
        fixed_td: Sinusoids, `[t, d]`; None unless `fixed` or `hybrid`.
    """

    learned_td: nn.Parameter | None
    fixed_td: Tensor | None

    def __init__(
        self,
        kind: Positions,
        *,
        width: int,
        frames: int,
        tokens: int | None = None,
        std: float = EMBEDDING_STD,
    ) -> None:
        super().__init__()
        check_choice('positions', kind, Positions)
        if not std > 0:
            raise ValueError(f'position_std={std!r}: expected more than 0')
        if kind == 'none':
            raise ValueError("positions='none' has no embeddings; use `create_positions`")
        self.kind = kind
        self.learned_td = None
        if kind == 'token-wise':
            if tokens is None:
                raise ValueError("positions='token-wise' needs the number of tokens of a frame")
            self.learned_td = nn.Parameter(torch.empty(frames, tokens, width))
        elif kind != 'fixed':
            self.learned_td = nn.Parameter(torch.empty(frames, width))
        if self.learned_td is not None:
            nn.init.trunc_normal_(self.learned_td, std=std)
        # The sinusoids follow from the shape, so they are not saved with the weights.
        fixed = sinusoids(frames, width) if kind in ('fixed', 'hybrid') else None
        self.register_buffer('fixed_td', fixed, persistent=False)

    @property
    def frame_wise(self) -> bool:
        """Whether all tokens of a frame get the same row."""
        return self.kind != 'token-wise'

    def table(self) -> Tensor:
        """Return the embeddings that are added, `[t, 1, d]`, or `[t, n, d]` token-wise."""
        if not self.frame_wise:
            assert self.learned_td is not None
            return self.learned_td
        rows = [part for part in (self.learned_td, self.fixed_td) if part is not None]
        return (rows[0] if len(rows) == 1 else rows[0] + rows[1])[:, None]

    def forward(self, x_btnd: Tensor) -> Tensor:
        """Add the embeddings to the tokens of windows, `[b, t, n, d]` to `[b, t, n, d]`.

        Raises:
            ValueError: Token-wise embeddings were made for another number of tokens.
        """
        table = self.table()
        if table.shape[1] not in (1, x_btnd.shape[2]):
            raise ValueError(
                f'got {x_btnd.shape[2]} tokens per frame; the token-wise embeddings are for '
                f'{table.shape[1]}'
            )
        return x_btnd + table


def create_positions(
    kind: Positions,
    *,
    width: int,
    frames: int,
    tokens: int | None = None,
    std: float = EMBEDDING_STD,
) -> FramePositions | None:
    """Return the embeddings of a kind; None for `none`.

    Raises:
        ValueError: The kind is unknown, or it is `token-wise` and `tokens` is None.
    """
    if kind == 'none':
        return None
    return FramePositions(kind, width=width, frames=frames, tokens=tokens, std=std)
