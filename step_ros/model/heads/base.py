"""What every head is: tokens of a window in, logits of one task out."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from step_ros.model.tokens import TokenKind, check_choice


class Head(nn.Module):
    """A classifier over the tokens of a window.

    Args:
        width: Channels of a token (d).
        frames: Frames in a window (T).
        classes: Number of labels (k).

    Attributes:
        consumes: Which tokens of a frame it takes: its `patches`, its `cls` token, or `all` (the
            CLS token first, then the patches).
        name: Name in the registry; empty when the head was not made by `create_head`.
        options: The options it was made with, defaults included.
    """

    consumes: TokenKind = 'patches'
    # Whether some other order of the frames can change the answer.
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
        """Sum windows up in what the classifier sees.

        Args:
            x_btnd: Tokens of the frames, oldest first: those that the head consumes, the CLS
                token before the patches where it takes both.

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
        """Refuse what is no batch of this head's windows.

        Raises:
            ValueError: Wrong number of dimensions, frames or channels; more than one token where
                the head takes the CLS token alone.
        """
        if x_btnd.ndim != 4:
            raise ValueError(
                f'got a tensor of shape {list(x_btnd.shape)}; a head takes windows '
                '[batch, frames, tokens, width]'
            )
        _, frames, tokens, width = x_btnd.shape
        if (frames, width) != (self.frames, self.width):
            raise ValueError(
                f'got a window of {frames} frames of width {width}; this head takes '
                f'{self.frames} frames of width {self.width}'
            )
        if self.consumes == 'cls' and tokens != 1:
            raise ValueError(f'got {tokens} tokens per frame; this head takes the CLS token alone')


# ---- The last layer of a head: linear, or the small MLP that the papers' parameter counts fit.

Classifier = Literal['linear', 'mlp']


def create_classifier(kind: Classifier, *, width: int, classes: int) -> nn.Module:
    """Return a classifier of pooled features, `[b, d]` to `[b, k]`.

    The STEP papers call STEP's last layer linear (Sec. III.A) and that of linear probing "an
    MLP head" (longer version, Sec. D). Their 0.3, 2.6 and 7.3 M trainable parameters for linear
    probing, STEP and attentive probing at width 768 fit, truncated, `mlp` in all three:
    768 -> 384 -> 34 alone is 0.31 M, a linear layer 0.03 M. The activation is not given; ReLU as
    in the "+ ReLU" fusions of the fusion paper, Sec. 3.4.

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


# ---- Where a head looks: attention of a window, laid out frame by frame.


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """Attention weights of the patches of a window, mean over attention heads.

    Fig. 5 of the human-robot interaction paper shows the like; it does not say which weights.

    Attributes:
        cls_btn: How much the global CLS token attends to each patch, `[b, t, n]`; with the token's
            weight on itself they sum to one. None for a head with per-frame CLS tokens.
        columns_btn: How much each patch is attended to, mean over all tokens, `[b, t, n]`: what a
            patch counts in the mean that STEP classifies. With the CLS tokens' they sum to one.
    """

    cls_btn: Tensor | None
    columns_btn: Tensor
