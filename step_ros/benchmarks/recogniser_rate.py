# SPDX-License-Identifier: Apache-2.0
"""The recogniser's own rate: times in one process without ROS, as the reference for a node."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from step_ros.encoders.base import Encoder
from step_ros.model.bundle import Bundle
from step_ros.streaming.frame_timer import FrameTimer
from step_ros.streaming.recogniser import StreamingRecogniser


def bundle_digests(bundle: Bundle) -> dict[str, Any]:
    """Return a bundle's name and the digests of everything that determines its predictions."""
    return {
        'model_id': bundle.model_id,
        'backbone_digest': bundle.spec.backbone.digest,
        'heads_digest': bundle.spec.heads.digest,
    }


# Frames of each camera before the first measurement, beyond a full window.
_WARM_UP = 3

# A median needs at least this many rounds.
_FEWEST_ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class RecogniserRate:
    """Speed of the recogniser alone, from frames in memory to hypotheses.

    Attributes:
        frame_ms: Median time for one frame of one camera, in milliseconds.
        frames_per_s: Frames processed per second, one frame of each camera at once. It is the
            number of all frames divided by their total time: a mean rather than a median, because
            slow rounds delay a node, too.
    """

    frame_ms: float
    frames_per_s: float


class RecogniserRateMeter:
    """Times a recogniser with full windows, on images of noise.

    Args:
        bundle: The model.
        encoder: Runs the bundle's backbone.
        cameras: Number of cameras.
        image_size: Height and width of the images in pixels.

    Raises:
        ValueError: There is no camera.
    """

    def __init__(
        self, bundle: Bundle, encoder: Encoder, *, cameras: int, image_size: tuple[int, int]
    ) -> None:
        if cameras < 1:
            raise ValueError(f'cameras={cameras}: expected at least 1')
        self._recogniser = StreamingRecogniser(bundle, encoder)
        self._names = [f'camera{index}' for index in range(cameras)]
        random = np.random.default_rng(0)
        image_hw3 = random.integers(0, 256, (*image_size, 3), dtype=np.uint8)
        self._timer = FrameTimer(self._recogniser, image_hw3=image_hw3)
        for _ in range(bundle.spec.frames + _WARM_UP):
            self._timer.time_frames(self._names)

    def measure(self, seconds: float) -> RecogniserRate:
        """Measure rounds of one camera's frame and of all cameras' frames.

        Args:
            seconds: How long to measure; at least a few rounds are measured.
        """
        one_ms: list[float] = []
        all_ms: list[float] = []
        end = time.perf_counter() + seconds
        while len(all_ms) < _FEWEST_ROUNDS or time.perf_counter() < end:
            one_ms.append(self._timer.time_frames(self._names[:1]))
            # The other cameras need this frame, too: a window with a gap would restart.
            self._timer.time_frames(self._names[1:])
            all_ms.append(self._timer.time_frames(self._names))
        return RecogniserRate(
            frame_ms=float(np.median(one_ms)),
            frames_per_s=1e3 * len(self._names) / float(np.mean(all_ms)),
        )
