"""The other probes that the papers compare STEP with.

Source: Sec. D and Fig. 4 of the longer STEP paper. Self-attention probing is `StepHead` with other
options.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from step_ros.model.attention import CrossAttention, feed_forward
from step_ros.model.heads.base import Classifier, Head, create_classifier
from step_ros.model.positions import EMBEDDING_STD, Positions, create_positions
from step_ros.model.tokens import check_choice

FramePooling = Literal['avg', 'max']
Attended = Literal['all', 'cls']


class LinearProbe(Head):
    """The CLS tokens of the frames, pooled, and a classifier: blind to frame order.

    With `pooling='max'` and either classifier it covers the four pooling fusions of the fusion
    paper, Sec. 3.4, too.

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T).
        classes: Number of labels (k).
        pooling: Mean over the frames, or the largest value of each channel.
        classifier: The last layer.
    """

    consumes = 'cls'

    def __init__(
        self,
        *,
        width: int,
        frames: int,
        classes: int,
        pooling: FramePooling = 'avg',
        classifier: Classifier = 'linear',
    ) -> None:
        super().__init__(width=width, frames=frames, classes=classes)
        check_choice('pooling', pooling, FramePooling)
        self.pooling = pooling
        self.classifier = create_classifier(classifier, width=width, classes=classes)

    def features(self, x_btnd: Tensor) -> Tensor:
        """Pool windows of CLS tokens, `[b, t, 1, d]`, into `[b, d]`."""
        self.check_window(x_btnd)
        x_btd = x_btnd[:, :, 0]
        return x_btd.mean(dim=1) if self.pooling == 'avg' else x_btd.amax(dim=1)


class AttentiveProbe(Head):
    """A learnable query that attends to all tokens through a full cross-attention block.

    The block is that of the probes the papers cite: norm, cross-attention and skip, then norm,
    feed-forward and skip. Without positions it is blind to frame order; with them it is the
    variant of Table 20. On `cls` tokens it is the fusion paper's Cross-Attention-CLS, Sec. 3.4.

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T).
        classes: Number of labels (k).
        tokens: Patches of a frame; needed for token-wise positions alone.
        attention_heads: Number of attention heads; None for one per 64 channels.
        positions: How frames are told apart; `after` the attention nothing of a frame is left.
        position_std: Standard deviation of learnable positions at the start.
        attends_to: Patches and CLS tokens (`all`), or CLS tokens alone.
        classifier: The last layer.
    """

    def __init__(
        self,
        *,
        width: int,
        frames: int,
        classes: int,
        tokens: int | None = None,
        attention_heads: int | None = None,
        positions: Positions = 'none',
        position_std: float = EMBEDDING_STD,
        attends_to: Attended = 'all',
        classifier: Classifier = 'linear',
    ) -> None:
        super().__init__(width=width, frames=frames, classes=classes)
        check_choice('attends_to', attends_to, Attended)
        if positions == 'after':
            raise ValueError(
                "positions='after': a query's answer holds no frames to add embeddings to; "
                "choose 'learnable', 'fixed', 'hybrid', 'token-wise' or 'none'"
            )
        self.consumes = attends_to
        self.order_aware = positions != 'none'
        if attends_to == 'cls':
            tokens = 1
        elif tokens is not None:
            tokens += 1
        self.positions = create_positions(
            positions, width=width, frames=frames, tokens=tokens, std=position_std
        )
        self.query_1d = nn.Parameter(torch.empty(1, width))
        nn.init.trunc_normal_(self.query_1d, std=EMBEDDING_STD)
        self.norm = nn.LayerNorm(width)
        self.attention = CrossAttention(
            width,
            attention_heads=attention_heads,
        )
        self.feed_forward = nn.Sequential(nn.LayerNorm(width), *feed_forward(width))
        self.classifier = create_classifier(classifier, width=width, classes=classes)

    def features(self, x_btnd: Tensor) -> Tensor:
        """Return what the query makes of windows, `[b, d]`.

        Args:
            x_btnd: Tokens of the frames, oldest first: CLS token and patches, or CLS tokens alone.
        """
        self.check_window(x_btnd)
        if self.positions is not None:
            x_btnd = self.positions(x_btnd)
        query_b1d: Tensor = self.query_1d.expand(x_btnd.shape[0], -1, -1)
        query_b1d = query_b1d + self.attention(query_b1d, self.norm(x_btnd.flatten(1, 2)))
        query_b1d = query_b1d + self.feed_forward(query_b1d)
        return query_b1d[:, 0]
