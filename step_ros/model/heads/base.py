# SPDX-License-Identifier: Apache-2.0
"""The base class of heads: tokens of a window in, logits of one task out.

Beside it: the last layer of a head (`create_classifier`), and its attention laid out frame by
frame (`AttentionMaps`).
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from step_ros.model.tokens import TokenKind, check_choice

# Tokens of a frame that an attention covers: all, or only the CLS token.
Attended = Literal['all', 'cls']
Classifier = Literal['linear', 'mlp']


class Head(nn.Module):
    """A classifier over the tokens of a window.

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T).
        classes: Number of labels (k).

    Attributes:
        consumes: The tokens of a frame in its input: `patches`, the `cls` token, or `all` (the CLS
            token first, then the patches).
        order_aware: Whether the order of the frames can change the logits.
        name: Name in the registry; empty if the head was not made by `create_head`.
        options: The options of the head, defaults included.
    """

    consumes: TokenKind = 'patches'
    order_aware: bool = False

    classifier: nn.Module

    def __init__(self, *, width: int, frames: int, classes: int) -> None:
        super().__init__()
        for name, value in (('width', width), ('frames', frames), ('classes', classes)):
            if value < 1:
                raise ValueError(f'{name}={value}: expected at least 1')
        self.width, self.frames, self.classes = width, frames, classes
        self.name = ''
        self.options: dict[str, Any] = {}

    def features(self, x_btnd: Tensor) -> Tensor:
        """Return the features of windows, which the classifier turns into logits.

        Args:
            x_btnd: The tokens that the head consumes, oldest frame first. In `all`, the CLS token
                of a frame comes before its patches.

        Returns:
            Features, `[b, d]`.

        Raises:
            ValueError: The windows do not have `frames` frames of tokens of `width` channels.
        """
        raise NotImplementedError

    def forward(self, x_btnd: Tensor) -> Tensor:
        """Classify windows, `[b, t, n, d]`, into logits, `[b, k]`; see `features`."""
        logits_bk: Tensor = self.classifier(self.features(x_btnd))
        return logits_bk

    def check_window(self, x_btnd: Tensor) -> None:
        """Check that a tensor is a batch of windows for this head.

        Raises:
            ValueError: Wrong number of dimensions, frames or channels, or more than one token per
                frame for a head that consumes the CLS token.
        """
        if x_btnd.ndim != 4:
            raise ValueError(
                f'got a tensor of shape {list(x_btnd.shape)}; a head needs windows '
                '[batch, frames, tokens, width]'
            )
        _, frames, tokens, width = x_btnd.shape
        if (frames, width) != (self.frames, self.width):
            raise ValueError(
                f'got a window of {frames} frames of width {width}; this head needs '
                f'{self.frames} frames of width {self.width}'
            )
        if self.consumes == 'cls' and tokens != 1:
            raise ValueError(
                f'got {tokens} tokens per frame; this head consumes only the CLS token'
            )


def create_classifier(kind: Classifier, *, width: int, classes: int) -> nn.Module:
    """Return the last layer of a head: pooled features `[b, d]` to logits `[b, k]`.

    The STEP papers call the last layer of STEP linear (Sec. III.A) and the last layer of linear
    probing "an MLP head" (longer version, Sec. D). They report 0.3, 2.6 and 7.3 M trainable
    parameters for linear probing, STEP and attentive probing at width 768. Truncated, all three
    figures fit `mlp`: 768 -> 384 -> 34 has 0.31 M, a linear layer 0.03 M. The papers do not give
    the activation; ReLU is taken from the "+ ReLU" fusions of the fusion paper, Sec. 3.4.

    Args:
        kind: `linear`, or `mlp` (width -> width/2 -> classes).
        width: Channels of a token (d).
        classes: Number of labels (k).

    Raises:
        ValueError: `kind` is unknown.
    """
    check_choice('classifier', kind, Classifier)
    if kind == 'linear':
        return nn.Linear(width, classes)
    hidden = max(1, width // 2)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes))


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """Attention weights of the patches of a window, mean over attention heads.

    Fig. 5 of the human-robot interaction paper shows such maps, but does not name the weights.

    Attributes:
        cls_btn: Attention weights of the global CLS token on each patch, `[b, t, n]`. Together
            with its weight on itself they sum to one. None for a head with per-frame CLS tokens.
        columns_btn: Attention that each patch receives, mean over all tokens, `[b, t, n]`: the
            weight of a patch in the mean that STEP classifies. Together with those of the CLS
            tokens they sum to one.
    """

    cls_btn: Tensor | None
    columns_btn: Tensor
