"""What a grid frame costs: the time that it takes to encode it and to decide on its window."""

import time
from collections import deque
from dataclasses import dataclass
from statistics import median

# Few enough to follow a machine that slows down, enough to pass over one that stumbles once.
_NEWEST = 5

_RECENT = 100

_MS = 1e-6


@dataclass(frozen=True, kw_only=True)
class BatchTiming:
    """What one batch took.

    Attributes:
        frames: Grid frames in it.
        encode_ns: Time for the encoder and the frames' share in the heads.
        windows: Windows that were decided on.
        predict_ns: Time for that.
    """

    frames: int
    encode_ns: int
    windows: int
    predict_ns: int

    @property
    def frame_ms(self) -> float:
        """All its time, for each frame."""
        return (self.encode_ns + self.predict_ns) / self.frames * _MS


class Stopwatch:
    """Adds up the time spent within it: `with stopwatch: ...`.

    Attributes:
        ns: So far, in nanoseconds.
    """

    def __init__(self) -> None:
        self.ns = 0
        self._started_ns = 0

    def __enter__(self) -> None:
        """Go on."""
        self._started_ns = time.perf_counter_ns()

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.ns += time.perf_counter_ns() - self._started_ns


class FrameTiming:
    """Remembers what the last batches took."""

    def __init__(self) -> None:
        self._turns: deque[BatchTiming] = deque(maxlen=_RECENT)
        self._encode_ms: deque[float] = deque(maxlen=_NEWEST)
        self._predict_ms: deque[float] = deque(maxlen=_NEWEST)

    def add(self, *, frames: int, encode_ns: int, windows: int, predict_ns: int) -> None:
        """Take note of a batch of at least one frame."""
        self._turns.append(
            BatchTiming(frames=frames, encode_ns=encode_ns, windows=windows, predict_ns=predict_ns)
        )
        self._encode_ms.append(encode_ns / frames * _MS)
        if windows:
            self._predict_ms.append(predict_ns / windows * _MS)

    @property
    def encode_ms(self) -> float:
        """What it takes to encode a frame, of late; 0 before the first."""
        return median(self._encode_ms) if self._encode_ms else 0.0

    @property
    def predict_ms(self) -> float:
        """What it takes to decide on a window, of late; 0 before the first."""
        return median(self._predict_ms) if self._predict_ms else 0.0

    @property
    def cost_ms(self) -> float:
        """What it takes to encode a frame and to decide on its window."""
        return self.encode_ms + self.predict_ms

    def recent_frame_ms(self) -> list[float]:
        """Return what each frame of the last batches took, ascending."""
        return sorted(turn.frame_ms for turn in list(self._turns))
