"""Writing a video file from frames with stamps."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

# Milliseconds: fine enough for any camera, and every container takes it.
TIME_BASE = Fraction(1, 1000)


class VideoWriter:
    """An MP4 file (H.264), one frame after the other, at the frames' own times.

    Args:
        path: The file to write.
        size: Width and height in pixels, both even.
        rate: Nominal frames per second.
        quality: Rate factor of H.264: less is better and larger; None for the codec's own, 23.
    """

    def __init__(
        self, path: Path, *, size: tuple[int, int], rate: float, quality: int | None = None
    ) -> None:
        self._container: Any = av.open(str(path), 'w')
        self._stream: Any = self._container.add_stream(
            'libx264', rate=Fraction(rate).limit_denominator(1000)
        )
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = 'yuv420p'
        if quality is not None:
            self._stream.options = {'crf': str(quality)}
        self._stream.codec_context.time_base = TIME_BASE
        self._first_ns: int | None = None
        self._last = -1

    def __enter__(self) -> 'VideoWriter':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, image_hw3: np.ndarray, stamp_ns: int) -> None:
        """Add a frame, uint8 RGB; one that is not after the last is left out."""
        if self._first_ns is None:
            self._first_ns = stamp_ns
        when = (stamp_ns - self._first_ns) // 1_000_000
        if when <= self._last:
            return
        self._last = when
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_hw3), format='rgb24')
        frame.pts = when
        frame.time_base = TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode())
        self._container.close()
