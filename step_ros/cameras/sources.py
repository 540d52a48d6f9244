# SPDX-License-Identifier: Apache-2.0
"""Sources of the camera node: a video file or the synthetic tabletop.

A source is a cursor over stream time. The node advances it to the present time; frames that are
overdue are skipped, so that the node never falls behind.
"""

from collections.abc import Iterator
from typing import Protocol

import cv2
import numpy as np

from step_ros.io.video import VideoFrame, VideoReader
from step_ros.streaming.grid import NANOSECONDS
from step_ros.tabletop.simulator import ActionSegment, Tabletop

TABLETOP_SIZE = (640, 480)


class CameraSource(Protocol):
    """A sequence of images in stream time, which begins at zero."""

    @property
    def skipped(self) -> int:
        """Number of overdue frames skipped since the restart."""

    def restart(self) -> None:
        """Go back to stream time zero."""

    def advance(self, now_ns: int) -> int | None:
        """Go to the next frame, or to the newest of several frames that are due.

        Args:
            now_ns: Present stream time, in nanoseconds.

        Returns:
            The frame's stream time, in nanoseconds; None at the end.
        """

    def image(self) -> np.ndarray:
        """Return the present frame, uint8 RGB `[h, w, 3]`."""

    def segment(self) -> ActionSegment | None:
        """Return the action in the present frame; None if the source does not know it."""


class FixedRateTimes:
    """Stream times at a fixed rate.

    Args:
        rate: Frames per second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.restart()

    def restart(self) -> None:
        """Go back to before the first frame."""
        self._index = -1
        self.skipped = 0

    def advance(self, now_ns: int) -> int:
        """Go to the next time, or to the newest of several times that are due.

        Args:
            now_ns: Present stream time, in nanoseconds.
        """
        due = int(now_ns * self._rate / NANOSECONDS)
        following = self._index + 1
        self._index = max(following, due)
        self.skipped += self._index - following
        # Computed from the index: a sum of rounded periods would drift.
        return round(self._index * NANOSECONDS / self._rate)


def output_size(width: int, height: int, own: tuple[int, int]) -> tuple[int, int]:
    """Return the output size; a width or height of 0 follows from the source's aspect ratio.

    Args:
        width: Width in pixels, or 0.
        height: Height in pixels, or 0.
        own: Width and height of the source, taken if both are 0.
    """
    own_width, own_height = own
    if not width and not height:
        return own
    if not width:
        width = max(2, 2 * round(height * own_width / own_height / 2))
    if not height:
        height = max(2, 2 * round(width * own_height / own_width / 2))
    return width, height


class TabletopSource:
    """The synthetic tabletop at a fixed rate.

    Args:
        seed: Number of the scene within its split.
        split: `train`, `val` or `test`.
        view: `front`, `side` or `top`.
        rate: Frames per second.
        width: Image width in pixels, or 0.
        height: Image height in pixels, or 0.

    Raises:
        ValueError: The rate is 0.
    """

    def __init__(
        self, *, seed: int, split: str, view: str, rate: float, width: int, height: int
    ) -> None:
        if not rate > 0:
            raise ValueError(
                'parameter rate is 0, but the tabletop has no frame times of its own; '
                'expected a rate above 0 Hz'
            )
        self._tabletop = Tabletop(seed=seed, split=split)
        self._view = view
        self._size = output_size(width, height, TABLETOP_SIZE)
        self._times = FixedRateTimes(rate)
        self._time_s = 0.0

    @property
    def skipped(self) -> int:
        """Number of overdue frames skipped since the restart."""
        return self._times.skipped

    def restart(self) -> None:
        """Go back to stream time zero, in the same scene."""
        self._times.restart()

    def advance(self, now_ns: int) -> int | None:
        """Go to the next frame or the newest due one; the tabletop never ends."""
        time_ns = self._times.advance(now_ns)
        self._time_s = time_ns / NANOSECONDS
        return time_ns

    def image(self) -> np.ndarray:
        """Render the present frame."""
        image_hw3: np.ndarray = self._tabletop.render(
            self._time_s, camera=self._view, size=self._size
        )
        return image_hw3

    def segment(self) -> ActionSegment | None:
        """Return the action of the present frame."""
        return self._tabletop.segment_at(self._time_s)


class VideoSource:
    """A video file, at its own frame times or at a fixed rate.

    Args:
        path: The file.
        rate: Frames per second; 0 for the frames' own times.
        loop: Whether to start again at the end.
        width: Image width in pixels, or 0.
        height: Image height in pixels, or 0.

    Raises:
        VideoError: The file cannot be read.
    """

    def __init__(self, path: str, *, rate: float, loop: bool, width: int, height: int) -> None:
        self._reader = VideoReader(path)
        self._times = FixedRateTimes(rate) if rate else None
        self._loop = loop
        self._size = output_size(width, height, (self._reader.width, self._reader.height))
        self.restart()

    @property
    def skipped(self) -> int:
        """Number of overdue frames skipped since the restart."""
        return self._times.skipped if self._times else self._skipped

    def restart(self) -> None:
        """Go back to the first frame."""
        if self._times:
            self._times.restart()
        self._skipped = 0
        self._frames = self._timed_frames()
        self._present: VideoFrame | None = None
        self._following = next(self._frames, None)
        self._image_hw3: np.ndarray | None = None

    def advance(self, now_ns: int) -> int | None:
        """Go to the newest frame that is due, or to the next frame if none is due yet."""
        if self._times:
            time_ns = self._times.advance(now_ns)
            self._take_until(time_ns)
            return time_ns if time_ns < self._end_ns or self._following else None
        if self._following is None:
            return None
        self._take()
        self._skipped += self._take_until(now_ns)
        return self._present_ns

    def image(self) -> np.ndarray:
        """Return the present frame in the output size; it is converted at most once."""
        assert self._present is not None
        if self._image_hw3 is None:
            image_hw3 = self._present.to_rgb()
            if self._size != (image_hw3.shape[1], image_hw3.shape[0]):
                shrinks = self._size[0] < image_hw3.shape[1]
                how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
                image_hw3 = cv2.resize(image_hw3, self._size, interpolation=how)
            self._image_hw3 = image_hw3
        return self._image_hw3

    def segment(self) -> ActionSegment | None:
        """Return None: a video file holds no action labels."""
        return None

    def _take(self) -> None:
        assert self._following is not None
        self._present_ns, self._present = self._following
        self._image_hw3 = None
        self._following = next(self._frames, None)

    def _take_until(self, time_ns: int) -> int:
        """Go to the last frame that is not later than a time; return the number of steps."""
        taken = 0
        while self._following is not None and self._following[0] <= time_ns:
            self._take()
            taken += 1
        return taken

    def _timed_frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield frames with their stream times; a looped video continues in stream time."""
        offset_s = 0.0
        while True:
            last_s, period_s = 0.0, 1.0 / (self._reader.rate or 30.0)
            for frame in self._reader:
                last_s = frame.time_s
                time_ns = round((offset_s + last_s) * NANOSECONDS)
                self._end_ns = round((offset_s + last_s + period_s) * NANOSECONDS)
                yield time_ns, frame
            if not self._loop:
                return
            offset_s += last_s + period_s
