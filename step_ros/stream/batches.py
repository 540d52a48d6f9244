"""Work on images in parts, and in smaller ones where the device has no memory for them."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

# Most images in one forward pass, unless a caller says otherwise.
MAX_BATCH = 16

Result = TypeVar('Result')

_logger = logging.getLogger(__name__)


class EncoderError(RuntimeError):
    """The encoder cannot encode; says why, and the mend."""


class Batches:
    """Cuts images into parts that the device has memory for.

    Args:
        most: Images in a part at first; halved, for good, when the device runs out of memory.
        on_shrink: Called with the new number, to let go of what was kept for larger parts.

    Raises:
        ValueError: `most` is not positive.
    """

    def __init__(self, most: int, *, on_shrink: Callable[[int], None] | None = None) -> None:
        if most < 1:
            raise ValueError(f'max_batch={most}: expected at least 1')
        self.most = most
        self._on_shrink = on_shrink

    def run(
        self, images: Sequence[np.ndarray], encode: Callable[[Sequence[np.ndarray]], Tensor]
    ) -> Tensor:
        """Encode the parts one after the other and put their tokens together.

        Raises:
            EncoderError: The device has no memory for a single image.
        """
        done: list[Tensor] = []
        start = 0
        while start < len(images):
            part = images[start : start + self.most]
            tokens_bnd = self.attempt(len(part), lambda part=part: encode(part))  # type: ignore[misc]
            if tokens_bnd is not None:
                done.append(tokens_bnd)
                start += len(part)
        return done[0] if len(done) == 1 else torch.cat(done)

    def attempt(self, size: int, work: Callable[[], Result]) -> Result | None:
        """Do work on `size` images; halve `most` and return None if there is no memory for it.

        Raises:
            EncoderError: There is no memory, and `size` is 1.
        """
        try:
            return work()
        except torch.cuda.OutOfMemoryError as error:
            if size == 1:
                raise EncoderError(
                    'the device has no memory for a single image: end other programs on it, take '
                    f'a smaller backbone or image size, or another device ({error})'
                ) from error
            why = str(error).partition('\n')[0]
        # After the handler: the exception holds the frames, and the tensors, of what failed.
        self.most = max(1, size // 2)
        _logger.warning('out of memory with %d images: %d from now on (%s)', size, self.most, why)
        if self._on_shrink is not None:
            self._on_shrink(self.most)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None
