# SPDX-License-Identifier: Apache-2.0
"""The STEP head (self-attentive temporal embedding probing), and its ablations as options.

Source: "Order Matters: On Parameter-Efficient Image-to-Video Probing for Recognizing Nearly
Symmetric Actions", Sec. III.A (human-robot interaction version), Sec. 3.2 of the longer version.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from step_ros.model.attention import AttentionBlock, Block
from step_ros.model.heads.base import AttentionMaps, Classifier, Head, create_classifier
from step_ros.model.positions import EMBEDDING_STD, Positions, create_positions
from step_ros.model.tokens import check_choice

Cls = Literal['global', 'frame']
Pooling = Literal['both', 'cls', 'patches']


class StepHead(Head):
    """The STEP head: global CLS token, frame-wise embeddings, self-attention, mean, classifier.

    The defaults are those of STEP in the papers. With `cls='frame'` and `positions='none'` the
    head is self-attention probing.

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T); Table 21.
        classes: Number of labels (k).
        tokens: Patches of a frame; only token-wise positions need it.
        attention_heads: Number of attention heads; None for one per 64 channels.
        positions: Positional embeddings of the tokens (Tables 11, 14, 18). With `none` or `after`
            the head does not see the order of the frames.
        position_std: Initial standard deviation of learnable positions.
        block: The parts of a transformer block around the attention (Tables 9, 19).
        pooling: The attended tokens that are averaged (Table 10): `both`, `cls` or `patches`. The
            attention always covers all tokens.
        cls: `global` for a learnable CLS token of the window, `frame` for the backbone's CLS token
            of each frame (Table 13).
        classifier: The last layer.

    Attributes:
        cls_d: The global CLS token, `[d]` (Eq. 2), which gets no frame-wise embedding. None with
            per-frame CLS tokens.
        positions: The positional embeddings; None for `none`.
    """

    def __init__(
        self,
        *,
        width: int,
        frames: int,
        classes: int,
        tokens: int | None = None,
        attention_heads: int | None = None,
        positions: Positions = 'learnable',
        position_std: float = EMBEDDING_STD,
        block: Block = 'attn',
        pooling: Pooling = 'both',
        cls: Cls = 'global',
        classifier: Classifier = 'linear',
    ) -> None:
        super().__init__(width=width, frames=frames, classes=classes)
        check_choice('pooling', pooling, Pooling)
        check_choice('cls', cls, Cls)
        if positions == 'after' and pooling == 'cls' and cls == 'global':
            raise ValueError(
                "positions='after' adds nothing to the global CLS token, which pooling='cls' "
                "classifies; choose pooling='both' or 'patches'"
            )
        self.pooling = pooling
        self.consumes = 'patches' if cls == 'global' else 'all'
        self.order_aware = positions not in ('none', 'after')
        self.cls_d: nn.Parameter | None = None
        if cls == 'global':
            self.cls_d = nn.Parameter(torch.empty(width))
            nn.init.trunc_normal_(self.cls_d, std=EMBEDDING_STD)
        elif tokens is not None:
            tokens += 1
        self.positions = create_positions(
            positions, width=width, frames=frames, tokens=tokens, std=position_std
        )
        self.block = AttentionBlock(
            width,
            attention_heads=attention_heads,
            block=block,
        )
        self.classifier = create_classifier(classifier, width=width, classes=classes)

    def features(self, x_btnd: Tensor) -> Tensor:
        """Return the mean of the attended tokens, `[b, d]`.

        Args:
            x_btnd: Tokens, oldest frame first: the patches; with `cls='frame'` the CLS token of
                each frame before its patches.
        """
        z_bld: Tensor = self.block(self.sequence(x_btnd))
        after = self.positions is not None and self.positions.kind == 'after'
        if self.pooling == 'both' and not after:
            return z_bld.mean(dim=1)
        first = 0 if self.cls_d is None else 1
        z_btnd = z_bld[:, first:].reshape(x_btnd.shape)
        if after:
            assert self.positions is not None
            z_btnd = self.positions(z_btnd)
        return self._pool(z_bld[:, :first], z_btnd)

    def sequence(self, x_btnd: Tensor) -> Tensor:
        """Return the input of the attention block (Eq. 2), `[b, l, d]`, global CLS token first."""
        self.check_window(x_btnd)
        if self.positions is not None and self.positions.kind != 'after':
            x_btnd = self.positions(x_btnd)
        x_bld = x_btnd.flatten(1, 2)
        if self.cls_d is None:
            return x_bld
        return torch.cat([self.cls_d.expand(x_bld.shape[0], 1, -1), x_bld], dim=1)

    def attention_maps(self, x_btnd: Tensor) -> AttentionMaps:
        """Return the attention weights of windows, laid out like their patches.

        Args:
            x_btnd: Tokens as for `features`.
        """
        x_bld = self.block.attention_input(self.sequence(x_btnd))
        shape = x_btnd.shape[:3]
        columns_bl = self.block.attention.column_means(x_bld)
        if self.cls_d is None:
            # The first token of each frame is its CLS token, which has no place in the image.
            columns_btn = columns_bl.reshape(shape)[:, :, 1:]
            return AttentionMaps(cls_btn=None, columns_btn=columns_btn)
        cls_bl = self.block.attention.row_weights(x_bld, 0)
        return AttentionMaps(
            cls_btn=cls_bl[:, 1:].reshape(shape),
            columns_btn=columns_bl[:, 1:].reshape(shape),
        )

    def _pool(self, cls_b1d: Tensor, z_btnd: Tensor) -> Tensor:
        """Return the mean of the attended tokens that `pooling` selects, `[b, d]`.

        Args:
            cls_b1d: The global CLS token; empty with per-frame CLS tokens.
            z_btnd: The tokens of the frames.
        """
        if self.cls_d is None:
            if self.pooling == 'cls':
                z_btnd = z_btnd[:, :, :1]
            elif self.pooling == 'patches':
                z_btnd = z_btnd[:, :, 1:]
            return z_btnd.flatten(1, 2).mean(dim=1)
        if self.pooling == 'cls':
            return cls_b1d[:, 0]
        parts = [z_btnd.flatten(1, 2)]
        if self.pooling == 'both':
            parts.append(cls_b1d)
        return torch.cat(parts, dim=1).mean(dim=1)
