"""Video files, frame by frame, each with its presentation time."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np


class VideoError(RuntimeError):
    """A video cannot be read.

    Args:
        path: The file.
        why: What is wrong, and what was expected.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f'{path}: {why}')
        self.path = path


class VideoFrame:
    """One frame of a video.

    Args:
        time_s: When it is shown, in seconds from the first frame.
        decoded: What PyAV decoded.
    """

    def __init__(self, time_s: float, decoded: Any) -> None:
        self.time_s = time_s
        self._decoded = decoded

    def to_rgb(self) -> np.ndarray:
        """Convert it to uint8 RGB `[h, w, 3]`; a frame that is skipped never pays for this."""
        image_hw3: np.ndarray = self._decoded.to_ndarray(format='rgb24')
        # Phones film upright by writing a rotation beside the pixels.
        quarters = round(getattr(self._decoded, 'rotation', 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(image_hw3, quarters)) if quarters else image_hw3


class VideoReader:
    """Reads a video file from its first frame to its last.

    Each iteration begins at the first frame again and ends the one before; use it in a `with`
    statement or close it. Times come from the frames' own time stamps, so that a variable frame
    rate is kept.

    Args:
        path: Any file that FFmpeg can read.

    Attributes:
        path: The file.
        width: Pixels in a row, as shown.
        height: Rows, as shown.
        rate: Average frames per second; 0 where the file does not say.
        duration_s: Length in seconds by the file's header; 0 where it does not say.

    Raises:
        VideoError: The file is missing, has no video stream or cannot be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._container: Any = None
        self._closed = False
        try:
            stream = self._open()
            self.rate = float(stream.average_rate or stream.guessed_rate or 0)
            self.duration_s = self._duration(stream)
            # The size as shown, and whether frames can be decoded at all: the first one says it.
            first = next(self._decode(stream), None)
            if first is None:
                raise VideoError(self.path, 'the video stream has no frames')
            self.height, self.width = first.to_rgb().shape[:2]
        finally:
            self._release()

    def __enter__(self) -> 'VideoReader':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        """Yield the frames in the order in which they are shown.

        Raises:
            VideoError: The reader is closed, or the file is damaged at some point.
        """
        if self._closed:
            raise VideoError(self.path, 'the reader is closed')
        self._release()
        return self._decode(self._open())

    def close(self) -> None:
        """Close the file; an iteration that is under way ends."""
        self._closed = True
        self._release()

    def _open(self) -> Any:
        try:
            # A decoder does not need text; files tagged in a foreign encoding must not fail.
            self._container = av.open(str(self.path), metadata_errors='replace')
        except FileNotFoundError as error:
            raise VideoError(self.path, 'there is no such file') from error
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                self.path, f'FFmpeg cannot open it as a video: {reason_of(error)}'
            ) from error
        if not self._container.streams.video:
            raise VideoError(self.path, 'it has no video stream')
        stream = self._container.streams.video[0]
        stream.thread_type = 'AUTO'
        return stream

    def _release(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _duration(self, stream: Any) -> float:
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return float((self._container.duration or 0) / av.time_base)

    def _decode(self, stream: Any) -> Iterator[VideoFrame]:
        container = self._container
        frames = container.decode(stream)
        origin_s: float | None = None
        time_s = 0.0
        while container is self._container:
            try:
                decoded = next(frames, None)
            except (av.FFmpegError, OSError) as error:
                raise VideoError(
                    self.path, f'cannot be decoded after {time_s:.3f} s: {reason_of(error)}'
                ) from error
            if decoded is None:
                return
            if decoded.time is not None:
                origin_s = decoded.time if origin_s is None else origin_s
                time_s = float(decoded.time - origin_s)
            elif origin_s is None:
                origin_s = 0.0
            elif self.rate:
                # No time stamp (a raw stream): the frame follows at the file's rate.
                time_s += 1.0 / self.rate
            else:
                raise VideoError(self.path, f'no time stamps and no frame rate at {time_s:.3f} s')
            yield VideoFrame(time_s, decoded)


def reason_of(error: BaseException) -> str:
    """Return what FFmpeg or the system says about a failure, without numbers and paths."""
    return str(getattr(error, 'strerror', None) or error)


# ---- Writing a video file from frames with stamps.

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
