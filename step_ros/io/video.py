# SPDX-License-Identifier: Apache-2.0
"""Read and write video files frame by frame, each frame with its presentation time.

`VideoReader` reads any file that FFmpeg can decode; `VideoWriter` writes MP4 files (H.264).
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from step_ros.files import Closing, expand_home, pointer_kind

# Milliseconds: fine enough for any camera, and every container takes them.
_WRITTEN_TIME_BASE = Fraction(1, 1000)

# Time stamps that go back by more than this, in seconds, begin anew, as in the stream.
_JUMP_S = 1.0

# Kinds of side data after PyAV's last known one that FFmpeg may use.
_UNKNOWN_SIDE_DATA = 16

# Stands for the place in a file at which the time stamps begin anew.
_RESTART = object()

# A display matrix may be this far from a turn by a multiple of 90 degrees (the tangent).
_TILT = 0.1


class VideoError(RuntimeError):
    """A video, a bag or a camera cannot be read.

    Args:
        path: The file or device.
        why: The fault, and the mend or the expected content.

    Attributes:
        path: As above.
        why: As above.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f'{path}: {why}')
        self.path = path
        self.why = why


class RestartError(VideoError):
    """The time stamps of a file begin anew.

    Args:
        path: The file.
        time_s: Seconds from the first frame to the last one before that place.
    """

    def __init__(self, path: Path, time_s: float) -> None:
        super().__init__(
            path,
            f'its time stamps begin anew after {time_s:.3f} s, as in two recordings joined in one '
            'file; split it there, or join the recordings with ascending stamps '
            '(ffmpeg -f concat)',
        )


class VideoFrame:
    """One frame of a video.

    Args:
        time_s: Presentation time in seconds from the first frame.
        decoded: The frame as PyAV decoded it.
        orientations: The orientations of its file.
    """

    def __init__(self, time_s: float, decoded: Any, orientations: 'Orientations') -> None:
        self.time_s = time_s
        self._decoded = decoded
        self._orientations = orientations

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the upright image; the frame is not converted for it.

        Raises:
            VideoError: The display matrix is tilted.
        """
        width, height = int(self._decoded.width), int(self._decoded.height)
        swapped = self._orientations.of_frame(self._decoded)[0]
        return (height, width) if swapped else (width, height)

    def to_rgb(self) -> np.ndarray:
        """Convert the frame to upright uint8 RGB, `[h, w, 3]`; skipped frames never pay for this.

        Raises:
            VideoError: The frame cannot be converted, or the display matrix is tilted.
        """
        try:
            image_hw3: np.ndarray = self._decoded.to_ndarray(format='rgb24')
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                self._orientations.path, f'cannot be converted: {reason_of(error)}'
            ) from error
        swapped, mirrored, flipped = self._orientations.of_frame(self._decoded)
        if swapped:
            image_hw3 = image_hw3.transpose(1, 0, 2)
        if mirrored:
            image_hw3 = image_hw3[:, ::-1]
        if flipped:
            image_hw3 = image_hw3[::-1]
        return np.ascontiguousarray(image_hw3)


class Orientations:
    """How to make the images of one file upright.

    Phones and dash cameras store rotated or mirrored pixels, and a display matrix beside them.
    FFmpeg turns the EXIF orientation of a JPEG into the same matrix.

    The matrix is read again only where the frames' rotation or size changes. Reading it ties a
    frame to its side data in a reference cycle, so that each such frame, megabytes long, would
    wait for the garbage collector.

    Args:
        path: The file, for error messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[tuple[int, int, int], tuple[bool, bool, bool]] = {}

    def of_frame(self, decoded: Any) -> tuple[bool, bool, bool]:
        """Return how to make a frame upright: transpose, then mirror, then flip.

        Args:
            decoded: The frame as PyAV decoded it.

        Raises:
            VideoError: The display matrix is tilted.
        """
        key = (int(getattr(decoded, 'rotation', 0)), int(decoded.width), int(decoded.height))
        if key not in self._known:
            self._known[key] = self._read(decoded)
        return self._known[key]

    def _read(self, decoded: Any) -> tuple[bool, bool, bool]:
        stored = _side_data(decoded).get('DISPLAYMATRIX')
        if stored is None:
            return False, False, False
        # Nine int32 by rows. A stored pixel (x, y), y down, is shown at (a x + c y, b x + d y).
        a, b, _, c, d = np.frombuffer(bytes(stored), np.int32)[:5].astype(float)
        if not any((a, b, c, d)):
            return False, False, False  # some writers leave the matrix empty
        swapped = abs(b) + abs(c) > abs(a) + abs(d)
        (main_x, main_y), (rest_x, rest_y) = ((c, b), (a, d)) if swapped else ((a, d), (c, b))
        if max(abs(rest_x), abs(rest_y)) > _TILT * min(abs(main_x), abs(main_y)):
            raise VideoError(
                self.path,
                f'its display matrix ({a / 65536:g} {b / 65536:g} {c / 65536:g} {d / 65536:g}) '
                'is tilted; expected a turn by a multiple of 90 degrees, mirrored or not: encode '
                'the video upright',
            )
        return swapped, main_x < 0, main_y < 0


def _side_data(decoded: Any) -> Any:
    """Return the side data of a PyAV frame."""
    try:
        return decoded.side_data
    except ValueError:
        # Newer FFmpegs know more kinds than PyAV does, such as EXIF, and PyAV then refuses them
        # all. A filter removes the unknown kinds from a copy.
        graph = av.filter.Graph()
        last: Any = graph.add_buffer(
            width=decoded.width,
            height=decoded.height,
            format=decoded.format,
            time_base=decoded.time_base or _WRITTEN_TIME_BASE,
        )
        known = max(int(kind.value) for kind in av.sidedata.sidedata.Type)
        for kind in range(known + 1, known + 1 + _UNKNOWN_SIDE_DATA):
            following = graph.add('sidedata', f'mode=delete:type={kind}')
            last.link_to(following)
            last = following
        last.link_to(graph.add('buffersink'))
        graph.configure()
        graph.push(decoded)
        return graph.pull().side_data


def until_restart(packets: Iterable[Any]) -> Iterator[Any]:
    """Yield the packets of a video stream; None, and no more, where the time stamps begin anew.

    Two recordings in one file, such as two joined transport streams, have such a place. No frame
    that is decoded before a key frame is shown after it. So a key frame with an earlier
    presentation time than a frame before it begins another recording:

        presentation times   0 2 1 4 3 | 0 2 1 4 3         key frames: both 0

    A single key frame that comes late may be one of two exchanged stamps, and does not count.

    Args:
        packets: Packets in the order of the file.
    """
    newest: int | None = None
    last_dts: int | None = None
    late: Any = None
    for packet in packets:
        pts, dts = packet.pts, packet.dts
        seconds = float(packet.time_base or 0)
        behind = newest - pts if pts is not None and newest is not None else 0
        back = last_dts - dts if dts is not None and last_dts is not None else 0
        last_dts = last_dts if dts is None else dts
        jumps = (packet.is_keyframe and behind * seconds > _JUMP_S) or back * seconds > _JUMP_S
        if jumps or (late is not None and behind > 0):
            yield None
            return
        if late is not None:
            yield late
            late = None
        if packet.is_keyframe and behind > 0:
            late = packet
            continue
        if pts is not None:
            newest = pts if newest is None else max(newest, pts)
        yield packet
    if late is not None:
        yield late


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
        width: Width in pixels of the upright image.
        height: Height in pixels of the upright image.
        rate: Average frames per second; 0 if the file has no frame rate.
        duration_s: Length in seconds from the file's header; 0 if the header has none.

    Raises:
        VideoError: The file is missing, has no video stream or cannot be decoded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expand_home(path)
        self._container: Any = None
        self._closed = False
        self._orientations = Orientations(self.path)
        try:
            stream = self._open()
            self.rate = float(stream.average_rate or stream.guessed_rate or 0)
            self.duration_s = self._duration(stream)
            # The first frame shows the upright size, and whether decoding works at all.
            first = next(self._decode(stream), None)
            if first is None:
                raise VideoError(self.path, 'the video stream has no frames')
            self.height, self.width = first.to_rgb().shape[:2]
        finally:
            self._release()

    def __iter__(self) -> Iterator[VideoFrame]:
        """Yield the frames in presentation order.

        Raises:
            VideoError: The reader is closed, a part of the file is damaged, or the time stamps
                begin anew. All frames before that place come first.
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
        frames = self._decoded(container, stream)
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
            if decoded is _RESTART:
                raise RestartError(self.path, time_s)
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
            yield VideoFrame(time_s, decoded, self._orientations)

    @staticmethod
    def _decoded(container: Any, stream: Any) -> Iterator[Any]:
        """Yield the frames as PyAV decodes them, and `_RESTART` where the stamps begin anew."""
        for packet in until_restart(container.demux(stream)):
            if packet is None:
                # The decoder still holds frames from before this place.
                for decoded in stream.codec_context.decode(None):
                    decoded.time_base = stream.time_base
                    yield decoded
                yield _RESTART
                return
            yield from packet.decode()


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
