# SPDX-License-Identifier: Apache-2.0
"""Linear and attentive probing, with which the papers compare STEP.

Source: Sec. D and Fig. 4 of the longer STEP paper. Self-attention probing is `StepHead` with other
options.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from step_ros.model.attention import CrossAttention, feed_forward
from step_ros.model.heads.base import Attended, Classifier, Head, create_classifier
from step_ros.model.positions import EMBEDDING_STD, Positions, create_positions
from step_ros.model.tokens import check_choice

FramePooling = Literal['avg', 'max']


class LinearProbe(Head):
    """Pools the CLS tokens of the frames; it does not see frame order.

    With both poolings and both classifiers it also covers the four pooling fusions of the fusion
    paper, Sec. 3.4.

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T).
        classes: Number of labels (k).
        pooling: `avg` (mean over the frames) or `max` (largest value of each channel).
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

    The block has norm, cross-attention and skip, then norm, feed-forward and skip, as in the
    probes that the papers cite. Without positions it does not see frame order; with positions it
    is the variant of Table 20. On `cls` tokens it is Cross-Attention-CLS of the fusion paper,
    Sec. 3.4.

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T).
        classes: Number of labels (k).
        tokens: Patches of a frame; only token-wise positions need it.
        attention_heads: Number of attention heads; None for one per 64 channels.
        positions: Positional embeddings of the tokens (`model/positions.py`); all but `after`.
        position_std: Initial standard deviation of learnable positions.
        attends_to: Patches and CLS tokens (`all`), or only CLS tokens (`cls`).
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
                "positions='after': the output of the query has no frames to add embeddings to; "
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
        """Return the output of the query for windows, `[b, d]`.

        Args:
            x_btnd: Tokens, oldest frame first: CLS token and patches, or only CLS tokens.
        """
        self.check_window(x_btnd)
        if self.positions is not None:
            x_btnd = self.positions(x_btnd)
        query_b1d: Tensor = self.query_1d.expand(x_btnd.shape[0], -1, -1)
        query_b1d = query_b1d + self.attention(query_b1d, self.norm(x_btnd.flatten(1, 2)))
        query_b1d = query_b1d + self.feed_forward(query_b1d)
        return query_b1d[:, 0]
