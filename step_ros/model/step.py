"""The STEP head: self-attentive temporal embedding probing.

Source: "Order Matters: On Parameter-Efficient Image-to-Video Probing for Recognizing Nearly
Symmetric Actions", Sec. III.A (human-robot interaction version), Sec. 3.2 of the longer version.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Positions = Literal['learnable', 'none']

# The papers do not give the initialisation of the embeddings; this is the usual one for ViTs.
EMBEDDING_STD = 0.02


class SelfAttention(nn.Module):
    """Multi-head self-attention alone: no norm, no skip, no feed-forward.

    Args:
        width: Channels of a token (d).
        attention_heads: Number of attention heads; must divide `width`.
    """

    def __init__(self, width: int, *, attention_heads: int) -> None:
        super().__init__()
        if width % attention_heads:
            raise ValueError(f'attention_heads={attention_heads} does not divide width={width}')
        self.attention_heads = attention_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_bld: Tensor) -> Tensor:
        """Let every token attend to all tokens.

        Args:
            x_bld: Tokens of the whole sequence.

        Returns:
            Attended tokens, `[b, l, d]`.
        """
        batch, length, width = x_bld.shape
        qkv = self.qkv(x_bld).view(batch, length, 3, self.attention_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return out


class StepHead(nn.Module):
    """A global CLS token, frame-wise embeddings, self-attention, mean, linear classifier.

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T).
        classes: Number of labels (k).
        attention_heads: Number of attention heads; None for one per 64 channels, as in ViTs.
            (The papers do not give it.)
        positions: `learnable` for STEP; `none` leaves the frame-wise embedding out, which makes
            the head blind to frame order.

    Attributes:
        cls_d: The global CLS token, `[d]` (Eq. 2). It gets no frame-wise embedding.
        positions_td: The frame-wise embeddings `t_i`, `[t, d]`; None without positions.
    """

    def __init__(
        self,
        *,
        width: int,
        frames: int,
        classes: int,
        attention_heads: int | None = None,
        positions: Positions = 'learnable',
    ) -> None:
        super().__init__()
        self.width, self.frames, self.classes = width, frames, classes
        self.cls_d = nn.Parameter(torch.empty(width))
        self.positions_td: nn.Parameter | None = None
        nn.init.trunc_normal_(self.cls_d, std=EMBEDDING_STD)
        if positions == 'learnable':
            self.positions_td = nn.Parameter(torch.empty(frames, width))
            nn.init.trunc_normal_(self.positions_td, std=EMBEDDING_STD)
        self.attention = SelfAttention(
            width, attention_heads=attention_heads or max(1, width // 64)
        )
        self.classifier = nn.Linear(width, classes)

    def forward(self, x_btnd: Tensor) -> Tensor:
        """Classify windows.

        Args:
            x_btnd: Patch tokens of the frames, oldest first; per-frame CLS tokens dropped.

        Returns:
            Logits, `[b, k]`.

        Raises:
            ValueError: The window does not have `frames` frames of tokens of `width` channels.
        """
        batch, frames, _, width = x_btnd.shape
        if (frames, width) != (self.frames, self.width):
            raise ValueError(
                f'got a window of {frames} frames of width {width}; this head takes '
                f'{self.frames} frames of width {self.width}'
            )
        if self.positions_td is not None:
            x_btnd = x_btnd + self.positions_td[None, :, None]
        cls_b1d = self.cls_d.expand(batch, 1, -1)
        x_bld = torch.cat([cls_b1d, x_btnd.flatten(1, 2)], dim=1)
        logits_bk: Tensor = self.classifier(self.attention(x_bld).mean(dim=1))
        return logits_bk
