"""Read and write video files frame by frame, each frame with its presentation time.

`VideoReader` reads any file that FFmpeg can decode; `VideoWriter` writes MP4 files (H.264).
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from step_ros.files import Closing, expand_home, pointer_kind

# Milliseconds: fine enough for any camera, and every container takes them.
_WRITTEN_TIME_BASE = Fraction(1, 1000)


class VideoError(RuntimeError):
    """A video, a bag or a camera cannot be read.

    Args:
        path: The file or device.
        why: The fault, and the mend or the expected content.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f'{path}: {why}')
        self.path = path


class VideoFrame:
    """One frame of a video.

    Args:
        time_s: Presentation time in seconds from the first frame.
        decoded: The frame as PyAV decoded it.
    """

    def __init__(self, time_s: float, decoded: Any) -> None:
        self.time_s = time_s
        self._decoded = decoded

    def to_rgb(self) -> np.ndarray:
        """Convert the frame to uint8 RGB, `[h, w, 3]`; skipped frames never pay for this."""
        image_hw3: np.ndarray = self._decoded.to_ndarray(format='rgb24')
        # Phones store an upright video as rotated pixels and a rotation angle.
        quarters = round(getattr(self._decoded, 'rotation', 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(image_hw3, quarters)) if quarters else image_hw3


def open_container(path: Path) -> Any:
    """Open a video file with FFmpeg, and return PyAV's container.

    Raises:
        FFmpegError: FFmpeg cannot read the file.
        OSError: The file is missing or cannot be read.
    """
    # FFmpeg takes the part of a name before a colon for a protocol, unless `file:` goes first.
    # Metadata in another text encoding must not stop the decoder, which needs no text.
    return av.open(f'file:{path}', metadata_errors='replace')


class VideoReader(Closing):
    """Read a video file from its first frame to its last.

    Use it in a `with` statement or close it. Each iteration starts at the first frame again and
    ends the previous iteration. Times come from the frames' own time stamps, which keeps a
    variable frame rate.

    Args:
        path: Any file that FFmpeg can read.

    Attributes:
        path: The file.
        width: Width in pixels, after rotation.
        height: Height in pixels, after rotation.
        rate: Average frames per second; 0 if the file has no frame rate.
        duration_s: Length in seconds from the file's header; 0 if the header has none.

    Raises:
        VideoError: The file is missing, has no video stream or cannot be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expand_home(path)
        self._container: Any = None
        self._closed = False
        try:
            stream = self._open()
            self.rate = float(stream.average_rate or stream.guessed_rate or 0)
            self.duration_s = self._duration(stream)
            # The first frame shows the size after rotation, and whether decoding works at all.
            first = next(self._decode(stream), None)
            if first is None:
                raise VideoError(self.path, 'the video stream has no frames')
            self.height, self.width = first.to_rgb().shape[:2]
        finally:
            self._release()

    def __iter__(self) -> Iterator[VideoFrame]:
        """Yield the frames in presentation order.

        Raises:
            VideoError: The reader is closed, or a part of the file is damaged.
        """
        if self._closed:
            raise VideoError(self.path, 'the reader is closed')
        self._release()
        return self._decode(self._open())

    def close(self) -> None:
        """Close the file and end the running iteration."""
        self._closed = True
        self._release()

    def _open(self) -> Any:
        try:
            # Metadata in another text encoding must not stop the decoder, which needs no text.
            self._container = open_container(self.path)
        except FileNotFoundError as error:
            raise VideoError(self.path, 'there is no such file') from error
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                self.path,
                pointer_kind(self.path) or f'FFmpeg cannot open it as a video: {reason_of(error)}',
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
                # A raw stream has no time stamps: frames follow each other at the file's rate.
                time_s += 1.0 / self.rate
            else:
                raise VideoError(self.path, f'no time stamp and no frame rate at {time_s:.3f} s')
            yield VideoFrame(time_s, decoded)


def reason_of(error: BaseException) -> str:
    """Return the message of an FFmpeg or system error, without error number and path."""
    return str(getattr(error, 'strerror', None) or error)


class VideoWriter(Closing):
    """Write an MP4 file (H.264) frame by frame, at the frames' own times.

    Args:
        path: The file to write.
        size: Width and height in pixels, both even.
        rate: Nominal frames per second.
        quality: Constant rate factor of H.264: a lower one gives a better and larger video. None
            takes the codec's default, 23.
    """

    def __init__(
        self, path: Path, *, size: tuple[int, int], rate: float, quality: int | None = None
    ) -> None:
        self._container: Any = av.open(f'file:{path}', 'w')
        self._stream: Any = self._container.add_stream(
            'libx264', rate=Fraction(rate).limit_denominator(1000)
        )
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = 'yuv420p'
        if quality is not None:
            self._stream.options = {'crf': str(quality)}
        self._stream.codec_context.time_base = _WRITTEN_TIME_BASE
        self._first_ns: int | None = None
        self._last = -1
        self._closed = False

    def write(self, image_hw3: np.ndarray, stamp_ns: int) -> None:
        """Add a frame, uint8 RGB `[h, w, 3]`; skip it unless it is later than the last one."""
        if self._first_ns is None:
            self._first_ns = stamp_ns
        when = (stamp_ns - self._first_ns) // 1_000_000
        if when <= self._last:
            return
        self._last = when
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_hw3), format='rgb24')
        frame.pts = when
        frame.time_base = _WRITTEN_TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        if self._closed:
            return
        self._closed = True
        self._container.mux(self._stream.encode())
        self._container.close()
