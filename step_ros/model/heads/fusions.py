# SPDX-License-Identifier: Apache-2.0
"""Temporal fusions: self-attention, temporal convolution, LSTM.

The fusions by pooling and by cross-attention are in `probes.py`.

Source: "Probing Fine-Grained Action Understanding and Cross-View Generalization of Foundation
Models" (the fusion paper), Sec. 3.4.
"""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from step_ros.model.attention import SelfAttention
from step_ros.model.heads.base import Attended, Classifier, Head, create_classifier
from step_ros.model.tokens import check_choice

AttendedPooling = Literal['avg', 'max', 'weighted']
KERNEL = 3


class SelfAttentionFusion(Head):
    """Self-attention over all tokens or over CLS tokens, pooled; it does not see frame order.

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T).
        classes: Number of labels (k).
        attention_heads: Number of attention heads; None for one per 64 channels.
        attends_to: Patches and CLS tokens (`all`), or only CLS tokens (`cls`).
        pooling: `avg` (mean), `max` (largest value of each channel), or `weighted`: a mean in
            which the weight of a token is the attention that it receives. (The paper says that
            the attention weights emphasise tokens; it does not say how.)
        classifier: The last layer.
    """

    def __init__(
        self,
        *,
        width: int,
        frames: int,
        classes: int,
        attention_heads: int | None = None,
        attends_to: Attended = 'all',
        pooling: AttendedPooling = 'avg',
        classifier: Classifier = 'linear',
    ) -> None:
        super().__init__(width=width, frames=frames, classes=classes)
        check_choice('attends_to', attends_to, Attended)
        check_choice('pooling', pooling, AttendedPooling)
        self.consumes = attends_to
        self.pooling = pooling
        self.attention = SelfAttention(
            width,
            attention_heads=attention_heads,
        )
        self.classifier = create_classifier(classifier, width=width, classes=classes)

    def features(self, x_btnd: Tensor) -> Tensor:
        """Fuse windows, `[b, t, n, d]`, into `[b, d]`."""
        self.check_window(x_btnd)
        x_bld = x_btnd.flatten(1, 2)
        z_bld: Tensor = self.attention(x_bld)
        if self.pooling == 'avg':
            return z_bld.mean(dim=1)
        if self.pooling == 'max':
            return z_bld.amax(dim=1)
        return (self.attention.column_means(x_bld)[..., None] * z_bld).sum(dim=1)


class TcnFusion(Head):
    """Dilated causal convolutions over the CLS tokens of the frames; classifies the last output.

    Each residual block has one convolution and ReLU. The dilation doubles from block to block
    until the last frame sees the first. (The paper gives neither depth nor widths.)

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T).
        classes: Number of labels (k).
        classifier: The last layer.
    """

    consumes = 'cls'
    order_aware = True

    def __init__(
        self, *, width: int, frames: int, classes: int, classifier: Classifier = 'linear'
    ) -> None:
        super().__init__(width=width, frames=frames, classes=classes)
        # Blocks of dilation 1, 2, 4, ... see 1 + (KERNEL - 1)(2^blocks - 1) frames.
        blocks = max(1, math.ceil(math.log2((frames - 1) / (KERNEL - 1) + 1)))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, dilation=2**block) for block in range(blocks)
        )
        self.classifier = create_classifier(classifier, width=width, classes=classes)

    def features(self, x_btnd: Tensor) -> Tensor:
        """Fuse windows of CLS tokens, `[b, t, 1, d]`, into `[b, d]`."""
        self.check_window(x_btnd)
        x_bdt = x_btnd[:, :, 0].transpose(1, 2)
        for block, convolution in enumerate(self.convolutions):
            past = (KERNEL - 1) * 2**block
            x_bdt = x_bdt + F.relu(convolution(F.pad(x_bdt, (past, 0))))
        return x_bdt[:, :, -1]


class LstmFusion(Head):
    """An LSTM over the CLS tokens of the frames; classifies the last hidden state.

    Args:
        width: Channels of a token (d) and of the hidden state. (The paper does not give it.)
        frames: Frames in a window (T).
        classes: Number of labels (k).
        classifier: The last layer.
    """

    consumes = 'cls'
    order_aware = True

    def __init__(
        self, *, width: int, frames: int, classes: int, classifier: Classifier = 'linear'
    ) -> None:
        super().__init__(width=width, frames=frames, classes=classes)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.classifier = create_classifier(classifier, width=width, classes=classes)

    def features(self, x_btnd: Tensor) -> Tensor:
        """Fuse windows of CLS tokens, `[b, t, 1, d]`, into `[b, d]`."""
        self.check_window(x_btnd)
        _, (hidden_1bd, _) = self.lstm(x_btnd[:, :, 0])
        last_bd: Tensor = hidden_1bd[-1]
        return last_bd
