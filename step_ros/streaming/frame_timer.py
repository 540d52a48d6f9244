# SPDX-License-Identifier: Apache-2.0
"""How long a recogniser takes for a frame, measured on an image in memory."""

import time
from collections.abc import Sequence

import numpy as np

from step_ros.streaming.frame import Frame
from step_ros.streaming.recogniser import StreamingRecogniser


class FrameTimer:
    """Times a recogniser on one image, over and over.

    Args:
        recogniser: A recogniser for this purpose only: the timer's cameras stay in it.
        image_hw3: The image, uint8 RGB; None for a black one of the encoder's size.
    """

    def __init__(
        self, recogniser: StreamingRecogniser, *, image_hw3: np.ndarray | None = None
    ) -> None:
        self._recogniser = recogniser
        self._stamps_ns: dict[str, int] = {}
        image = recogniser.bundle.spec.image
        if image_hw3 is None:
            image_hw3 = np.zeros((image.height, image.width, 3), dtype=np.uint8)
        self._image_hw3 = image_hw3

    @property
    def window(self) -> int:
        """Frames in a window (T)."""
        return self._recogniser.bundle.spec.frames

    def time_frames(self, cameras: Sequence[str]) -> float:
        """Process the next frame of these cameras in one batch; return the milliseconds."""
        frames = []
        for camera in cameras:
            stamp_ns = self._stamps_ns.get(camera, 1)
            self._stamps_ns[camera] = stamp_ns + self._recogniser.settings.frame_period_ns
            frames.append(Frame(camera=camera, stamp_ns=stamp_ns, load=lambda: self._image_hw3))
        started = time.perf_counter()
        self._recogniser.process(frames)
        return 1e3 * (time.perf_counter() - started)

    def run(self, frames: int) -> list[float]:
        """Process some frames of one camera; return the milliseconds of each."""
        return [self.time_frames(['']) for _ in range(frames)]
