"""A frame as it comes from a camera, before anyone has looked at its pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


class FrameError(ValueError):
    """A frame cannot be used.

    Args:
        cause: One word for counting, for example `unknown_encoding`.
        detail: What is wrong and what was expected.
    """

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One image with its stamp and camera.

    Attributes:
        camera: Name of the camera.
        stamp_ns: When it was taken, in nanoseconds, from the header.
        frame_id: Its coordinate frame, from the header.
        received_ns: When it came, in nanoseconds of the monotonic clock.
        load: Gives the pixels, uint8 RGB `[h, w, 3]`, or raises `FrameError`. It is called only
            for frames on the grid: a frame that is not looked at costs no conversion.
    """

    camera: str
    stamp_ns: int
    frame_id: str = ''
    received_ns: int = 0
    load: Callable[[], np.ndarray]
