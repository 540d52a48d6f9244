# SPDX-License-Identifier: Apache-2.0
"""Self-attention, cross-attention from a learnable query, and the block around attention."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from step_ros.model.tokens import check_choice

Block = Literal['attn', 'attn+ln+skip', 'full']

# Query rows whose attention weights are in memory at the same time, where only sums are needed.
BLOCK_ROWS = 1024


def resolve_attention_heads(width: int, wanted: int | None) -> int:
    """Return `wanted`, or one attention head per 64 channels, as in ViTs, if it is None.

    The papers do not give their number of attention heads.

    Raises:
        ValueError: The number does not divide the width; lists the numbers that do.
    """
    if wanted is None:
        wanted = max(1, width // 64)
    whole = isinstance(wanted, int) and not isinstance(wanted, bool)
    if not whole or wanted < 1 or width % wanted:
        divisors = ', '.join(str(n) for n in range(1, min(width, 64) + 1) if width % n == 0)
        raise ValueError(
            f'attention_heads={wanted!r} does not divide width={width}; choose from {divisors}'
        )
    return wanted


class SelfAttention(nn.Module):
    """Multi-head self-attention alone: no norm, no skip, no feed-forward.

    Args:
        width: Channels of a token (d).
        attention_heads: Number of attention heads; None for one per 64 channels.
    """

    def __init__(self, width: int, *, attention_heads: int | None = None) -> None:
        super().__init__()
        self.attention_heads = resolve_attention_heads(width, attention_heads)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_bld: Tensor) -> Tensor:
        """Let every token attend to all tokens.

        Args:
            x_bld: Tokens of the whole sequence.

        Returns:
            Attended tokens, `[b, l, d]`.
        """
        q, k, v = self._project(x_bld)
        attended = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out

    def row_weights(self, x_bld: Tensor, row: int) -> Tensor:
        """Return the attention weights of one query, mean over attention heads, `[b, l]`.

        Args:
            x_bld: Tokens of the whole sequence.
            row: Position of the query in the sequence.
        """
        q, k, _ = self._project(x_bld)
        return self._weights(q[:, :, row : row + 1], k).mean(dim=1)[:, 0]

    def column_means(self, x_bld: Tensor, *, block_rows: int = BLOCK_ROWS) -> Tensor:
        """Return the attention that each token receives, mean over queries and heads, `[b, l]`.

        Args:
            x_bld: Tokens of the whole sequence.
            block_rows: Queries whose weights are in memory at the same time.
        """
        q, k, _ = self._project(x_bld)
        sums = [
            self._weights(rows, k).mean(dim=1).sum(dim=1)
            for rows in torch.split(q, block_rows, dim=2)
        ]
        return torch.stack(sums).sum(dim=0) / x_bld.shape[1]

    def _project(self, x_bld: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, _ = x_bld.shape
        qkv = self.qkv(x_bld).view(batch, length, 3, self.attention_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    @staticmethod
    def _weights(q: Tensor, k: Tensor) -> Tensor:
        scores: Tensor = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        return scores.softmax(dim=-1)


class CrossAttention(nn.Module):
    """Multi-head attention of a few queries to many tokens.

    Args:
        width: Channels of a token (d).
        attention_heads: Number of attention heads; None for one per 64 channels.
    """

    def __init__(self, width: int, *, attention_heads: int | None = None) -> None:
        super().__init__()
        self.attention_heads = resolve_attention_heads(width, attention_heads)
        self.query = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, query_bqd: Tensor, x_bld: Tensor) -> Tensor:
        """Let the queries attend to all tokens.

        Args:
            query_bqd: Queries.
            x_bld: Tokens.

        Returns:
            Attended queries, `[b, q, d]`.
        """
        batch, length, _ = x_bld.shape
        q = self.query(query_bqd).view(batch, query_bqd.shape[1], self.attention_heads, -1)
        kv = self.kv(x_bld).view(batch, length, 2, self.attention_heads, -1)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q.transpose(1, 2), k, v)
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out


def feed_forward(width: int) -> nn.Sequential:
    """Return the feed-forward part of a transformer: four times the width, GELU."""
    return nn.Sequential(
        nn.Linear(width, 4 * width),
        nn.GELU(),
        nn.Linear(4 * width, width),
    )


class AttentionBlock(nn.Module):
    """Self-attention, alone or inside a part of a transformer block.

    Source: Tables 9 and 19 of the longer STEP paper. The papers' figure does not show where the
    norms stand. Here they stand before the attention and before the feed-forward, as in ViTs.

    Args:
        width: Channels of a token (d).
        attention_heads: Number of attention heads; None for one per 64 channels.
        block: `attn` (attention alone, as in STEP), `attn+ln+skip` (with norm and skip), or `full`
            (with the feed-forward too).
    """

    def __init__(
        self, width: int, *, attention_heads: int | None = None, block: Block = 'attn'
    ) -> None:
        super().__init__()
        check_choice('block', block, Block)
        self.attention = SelfAttention(width, attention_heads=attention_heads)
        self.attention_norm: nn.LayerNorm | None = None
        self.feed_forward: nn.Sequential | None = None
        if block != 'attn':
            self.attention_norm = nn.LayerNorm(width)
        if block == 'full':
            self.feed_forward = nn.Sequential(nn.LayerNorm(width), *feed_forward(width))

    def forward(self, x_bld: Tensor) -> Tensor:
        """Transform the tokens of a sequence, `[b, l, d]` to `[b, l, d]`."""
        if self.attention_norm is None:
            attended: Tensor = self.attention(x_bld)
            return attended
        x_bld = x_bld + self.attention(self.attention_norm(x_bld))
        if self.feed_forward is not None:
            x_bld = x_bld + self.feed_forward(x_bld)
        return x_bld

    def attention_input(self, x_bld: Tensor) -> Tensor:
        """Return the input of the attention for this input of the block, `[b, l, d]`."""
        return x_bld if self.attention_norm is None else self.attention_norm(x_bld)
