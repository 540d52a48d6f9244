# SPDX-License-Identifier: Apache-2.0
"""A frame on its way from a camera to the encoder: as it arrives, then placed on the grid.

    Frame       an image that has arrived; its pixels are not converted yet
      | CameraState.place, CameraState.load
    GridFrame   on the grid, with pixels                 (waits in the queue)
      | encoder
    EncodedFrame (window.py)                             (stays in the window)

One `FrameHeader` travels through all three and ends in the hypothesis.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from step_ros.images.region import Box
from step_ros.images.resize import cut_box
from step_ros.streaming.grid import Placement

# Returns the part to encode of an image of this height and width.
Crop = Callable[[tuple[int, int]], Box]


@dataclass(frozen=True, kw_only=True)
class FrameProblem:
    """A frame that was dropped because it cannot be used.

    Attributes:
        camera: Name of the camera.
        cause: One word, the key of its counter.
        detail: What is wrong and what was expected.
    """

    camera: str
    cause: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class FrameHeader:
    """Where and when a frame was taken.

    Attributes:
        camera: Name of the camera.
        frame_id: Its coordinate frame, from the message's header.
        stamp_ns: When the image was taken, in nanoseconds, from the message's header.
        received_ns: When the message arrived, in nanoseconds of the monotonic clock.
    """

    camera: str
    frame_id: str
    stamp_ns: int
    received_ns: int


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One image with its stamp and camera; its pixels are converted on demand.

    Attributes:
        camera: Name of the camera.
        stamp_ns: When the image was taken, in nanoseconds, from the message's header.
        frame_id: Its coordinate frame, from the message's header.
        received_ns: When the message arrived, in nanoseconds of the monotonic clock.
        load: Returns the pixels, uint8 RGB `[h, w, 3]`, or raises `FrameError`. The recogniser
            calls it for grid frames only, so that other frames cost no conversion.
        crop: Returns the part to encode of an image of this height and width; None for all of it.
    """

    camera: str
    stamp_ns: int
    frame_id: str = ''
    received_ns: int = 0
    load: Callable[[], np.ndarray]
    crop: Crop | None = None

    @property
    def header(self) -> FrameHeader:
        """Where and when the frame was taken, without `load`, which keeps its message alive."""
        return FrameHeader(
            camera=self.camera,
            frame_id=self.frame_id,
            stamp_ns=self.stamp_ns,
            received_ns=self.received_ns,
        )


@dataclass(frozen=True, kw_only=True)
class GridFrame:
    """A frame on the grid, with its pixels.

    Attributes:
        header: Where and when it was taken.
        placement: How it got onto the grid.
        slot: Its slot on the grid.
        image_hw3: Its pixels, uint8 RGB.
        box: The part of them to encode; None for all of it.
        fitted_hw3: That part, resized for the encoder; None if the encoder resizes it.
    """

    header: FrameHeader
    placement: Placement
    slot: int
    image_hw3: np.ndarray
    box: Box | None = None
    fitted_hw3: np.ndarray | None = None

    @property
    def camera(self) -> str:
        """Name of the camera."""
        return self.header.camera

    @property
    def frame_id(self) -> str:
        """Coordinate frame of the camera."""
        return self.header.frame_id

    @property
    def stamp_ns(self) -> int:
        """When the image was taken, in nanoseconds."""
        return self.header.stamp_ns

    @property
    def seen_hw3(self) -> np.ndarray:
        """The pixels for the encoder."""
        return cut_box(self.image_hw3, self.box) if self.fitted_hw3 is None else self.fitted_hw3
