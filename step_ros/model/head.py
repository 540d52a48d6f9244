"""What every head is: tokens of a window in, logits of one task out."""

from typing import Any

from torch import Tensor, nn

from step_ros.model.tokens import TokenKind


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
