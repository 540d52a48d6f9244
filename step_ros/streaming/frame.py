"""A frame as it comes from a camera, before anyone has looked at its pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from step_ros.images.region import Box
from step_ros.images.resize import cut_box
from step_ros.streaming.grid import Placement

# Tells which part of an image of this height and width is looked at.
Crop = Callable[[tuple[int, int]], Box]


@dataclass(frozen=True, kw_only=True)
class FrameProblem:
    """A frame that was dropped because it cannot be used.

    Attributes:
        camera: Name of the camera.
        cause: One word, for counting.
        detail: What is wrong and what was expected.
    """

    camera: str
    cause: str
    detail: str


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
        crop: Tells which part of an image of this height and width is looked at; None: all of it.
    """

    camera: str
    stamp_ns: int
    frame_id: str = ''
    received_ns: int = 0
    load: Callable[[], np.ndarray]
    crop: Crop | None = None


@dataclass(frozen=True, kw_only=True)
class GridFrame:
    """A frame on the grid, with its pixels.

    Attributes:
        camera: Name of the camera.
        stamp_ns: When it was taken.
        frame_id: Its coordinate frame.
        received_ns: When it came, in nanoseconds of the monotonic clock.
        placement: How it came onto the grid.
        slot: Its place on the grid.
        image_hw3: Its pixels, uint8 RGB.
        box: The part of them that is looked at; None: all of it.
        fitted_hw3: That part in the size that the encoder takes; None where the encoder fits it.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    received_ns: int
    placement: Placement
    slot: int
    image_hw3: np.ndarray
    box: Box | None = None
    fitted_hw3: np.ndarray | None = None

    @property
    def seen_hw3(self) -> np.ndarray:
        """The pixels that the encoder is given."""
        return cut_box(self.image_hw3, self.box) if self.fitted_hw3 is None else self.fitted_hw3
