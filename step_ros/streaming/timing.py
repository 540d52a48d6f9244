# SPDX-License-Identifier: Apache-2.0
"""What a grid frame costs: the time to encode it and to run the heads on its window."""

import time
from collections import deque
from dataclasses import dataclass
from statistics import median

# Batches in a median: few enough to follow a machine that slows down, enough to ignore one
# outlier.
_NEWEST = 5
# Batches in the statistics of `recent_frame_ms`.
_RECENT = 100

_MS = 1e-6  # milliseconds in a nanosecond


@dataclass(frozen=True, kw_only=True)
class BatchTiming:
    """The time of one batch.

    Attributes:
        frames: Its grid frames.
        encode_ns: Time of the encoder, and of the frames' projections and storage for the heads.
        windows: Its windows with a hypothesis.
        predict_ns: Time of the heads on these windows.
    """

    frames: int
    encode_ns: int
    windows: int
    predict_ns: int

    @property
    def frame_ms(self) -> float:
        """The whole time, per frame."""
        return (self.encode_ns + self.predict_ns) / self.frames * _MS


class Stopwatch:
    """Adds up the time spent inside it: `with stopwatch: ...`.

    Attributes:
        ns: The time so far, in nanoseconds.
    """

    def __init__(self) -> None:
        self.ns = 0
        self._started_ns = 0

    def __enter__(self) -> None:
        """Start or resume."""
        self._started_ns = time.perf_counter_ns()

    def __exit__(self, *error: object) -> None:
        """Pause."""
        self.ns += time.perf_counter_ns() - self._started_ns


class FrameTiming:
    """Remembers the times of the last batches."""

    def __init__(self) -> None:
        self._batches: deque[BatchTiming] = deque(maxlen=_RECENT)
        self._encode_ms: deque[float] = deque(maxlen=_NEWEST)
        self._predict_ms: deque[float] = deque(maxlen=_NEWEST)

    def add_batch(self, *, frames: int, encode_ns: int, windows: int, predict_ns: int) -> None:
        """Record a batch of at least one frame."""
        self._batches.append(
            BatchTiming(frames=frames, encode_ns=encode_ns, windows=windows, predict_ns=predict_ns)
        )
        self._encode_ms.append(encode_ns / frames * _MS)
        if windows:
            self._predict_ms.append(predict_ns / windows * _MS)

    @property
    def encode_ms(self) -> float:
        """Recent time to encode a frame; 0 before the first."""
        return median(self._encode_ms) if self._encode_ms else 0.0

    @property
    def predict_ms(self) -> float:
        """Recent time of the heads on a window; 0 before the first."""
        return median(self._predict_ms) if self._predict_ms else 0.0

    @property
    def cost_ms(self) -> float:
        """Recent time to encode a frame and to run the heads on its window."""
        return self.encode_ms + self.predict_ms

    def recent_frame_ms(self) -> list[float]:
        """Return the time per frame of the last batches, ascending."""
        # A copy first: the worker may add a batch meanwhile.
        return sorted(batch.frame_ms for batch in list(self._batches))
