"""What the recogniser does by itself, in one process, without ROS: what a node is held against."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from step_ros.encoders.base import Encoder
from step_ros.model.bundle import Bundle
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.streaming.threads import FrameTimer


def bundle_digests(bundle: Bundle) -> dict[str, Any]:
    """Name a bundle and all that decides its answers."""
    return {
        'model_id': bundle.model_id,
        'backbone_digest': bundle.spec.backbone.digest,
        'heads_digest': bundle.spec.heads.digest,
    }


_WARM_UP = 3

# Fewer turns make no median.
_FEWEST_TURNS = 5


@dataclass(frozen=True, kw_only=True)
class OwnRate:
    """The recogniser's own times, each from frames in memory to hypotheses.

    Attributes:
        frame_ms: Median of the time for one frame of one camera.
        frames_per_s: Frames that it answers in a second, taking one of each camera at once: all
            frames by all their time, for what holds up the one holds up the node, too.
    """

    frame_ms: float
    frames_per_s: float


class OwnRateMeter:
    """Runs a recogniser on full windows of images of noise.

    Args:
        bundle: The model.
        encoder: Runs its backbone.
        cameras: How many cameras there are.
        image_size: Height and width of their images in pixels.

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
            self._timer.take(self._names)

    def measure(self, seconds: float) -> OwnRate:
        """Measure in turns, one camera and all.

        Args:
            seconds: How long, but a few turns at least.
        """
        one_ms: list[float] = []
        all_ms: list[float] = []
        end = time.perf_counter() + seconds
        while len(all_ms) < _FEWEST_TURNS or time.perf_counter() < end:
            one_ms.append(self._timer.take(self._names[:1]))
            # The others' windows go on as well, or they would restart.
            self._timer.take(self._names[1:])
            all_ms.append(self._timer.take(self._names))
        return OwnRate(
            frame_ms=float(np.median(one_ms)),
            frames_per_s=1e3 * len(self._names) / float(np.mean(all_ms)),
        )
