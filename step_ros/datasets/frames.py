"""Exact frames of a part of a video or of a bag's camera, without decoding what lies before.

No file stays open, and an index can be sent to other processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.io.video import VideoError, VideoFrame, VideoReader, reason_of
from step_ros.streaming.grid import NANOSECONDS

# Videos whose frame times are remembered: the clips of a long video come one after the other.
_REMEMBERED = 8


class FrameIndex(Protocol):
    """When each frame was taken, and the frames by their numbers: of a video or a bag's camera."""

    @property
    def path(self) -> Path:
        """The video file or the bag."""

    @property
    def stamps_ns(self) -> np.ndarray:
        """Nanoseconds from the first frame, ascending, `[f]`."""

    def __len__(self) -> int: ...

    def decode(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """Decode frames by their numbers, uint8 RGB, `[h, w, 3]`; those that fail may lack.

        Raises:
            VideoError: A frame cannot be decoded.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoIndex:
    """When each frame of a video is shown.

    Attributes:
        path: The file.
        stamps_ns: Nanoseconds from the first frame, ascending, `[f]`.
        pts: The container's own time stamps of these frames; None where it has none, and frames
            are found by counting.
    """

    path: Path
    stamps_ns: np.ndarray
    pts: np.ndarray | None

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def decode(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """Decode frames by their numbers; the file is open only meanwhile.

        Raises:
            VideoError: The file cannot be decoded.
        """
        numbers = sorted(set(wanted))
        if self.pts is None:
            return _by_counting(self, numbers)
        return _by_time_stamps(self, self.pts, numbers)


def index_clip(record: ClipRecord) -> FrameIndex:
    """Find out when each frame of a clip's video or camera was taken, and remember the last few.

    Raises:
        VideoError: It is missing, damaged or holds no frames.
    """
    return _remembered(record.video, record.topic)


def index_camera(path: Path, topic: str = '') -> FrameIndex:
    """Find out when each frame of a video, or of a camera of a bag, was taken.

    Raises:
        VideoError: It is missing, damaged or holds no frames.
    """
    if not topic:
        return index_video(path)
    # Only here: a machine without bags need not have what reads them.
    from step_ros.io.bags.reader import index_bag

    return index_bag(path, topic)


_remembered = lru_cache(maxsize=_REMEMBERED)(index_camera)


def index_video(path: str | Path) -> VideoIndex:
    """Find out when each frame is shown, from the packets' time stamps: nothing is decoded.

    A file without such time stamps is decoded once instead.

    Raises:
        VideoError: The file is missing, is no video or holds no frames.
    """
    path = Path(path)
    try:
        with av.open(str(path), metadata_errors='replace') as container:
            if not container.streams.video:
                raise VideoError(path, 'it has no video stream')
            stream = container.streams.video[0]
            time_base = stream.time_base
            packets = [packet for packet in container.demux(stream) if packet.size]
    except FileNotFoundError as error:
        raise VideoError(path, 'there is no such file') from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, f'FFmpeg cannot read it: {reason_of(error)}') from error
    shown = [packet.pts for packet in packets if not packet.is_discard]
    if not shown or None in shown or time_base is None or len(set(shown)) != len(shown):
        return _index_by_decoding(path)
    pts = np.sort(np.asarray(shown, dtype=np.int64))
    elapsed = [int((value - int(pts[0])) * time_base * NANOSECONDS) for value in pts.tolist()]
    return VideoIndex(path=path, stamps_ns=np.asarray(elapsed, dtype=np.int64), pts=pts)


def _index_by_decoding(path: Path) -> VideoIndex:
    with VideoReader(path) as reader:
        times = [frame.time_s for frame in reader]
    stamps_ns = np.round(np.asarray(times) * NANOSECONDS).astype(np.int64)
    return VideoIndex(path=path, stamps_ns=stamps_ns, pts=None)


def span_frames(index: FrameIndex, span: Span | None) -> np.ndarray:
    """Return the numbers of the frames that a span holds, ascending.

    Raises:
        VideoError: It holds none, or counts frames beyond the last.
    """
    if span is None:
        return np.arange(len(index))
    if span.unit == 'frames':
        if span.end > len(index):
            raise VideoError(
                index.path,
                f'span {span.start:g} to {span.end:g}: the video has {len(index)} frames',
            )
        return np.arange(int(span.start), int(span.end))
    # Whole nanoseconds: a frame at the very start belongs to the span, whatever its seconds are.
    start_ns, end_ns = round(span.start * NANOSECONDS), round(span.end * NANOSECONDS)
    inside = (index.stamps_ns >= start_ns) & (index.stamps_ns < end_ns)
    numbers = np.flatnonzero(inside)
    if not len(numbers):
        last = index.stamps_ns[-1] / NANOSECONDS
        raise VideoError(
            index.path,
            f'span {span.start:g} s to {span.end:g} s holds no frame; the last is at {last:g} s',
        )
    return numbers


def read_frames(index: FrameIndex, numbers: np.ndarray | list[int]) -> np.ndarray:
    """Decode frames by their numbers; the file is open only meanwhile.

    Args:
        index: The video or the bag's camera.
        numbers: Which frames, in any order; a frame may be wanted several times.

    Returns:
        The frames in that order, uint8 RGB, `[t, h, w, 3]`.

    Raises:
        VideoError: A frame cannot be decoded, or they differ in size.
    """
    wanted = sorted({int(number) for number in numbers})
    if not wanted or wanted[0] < 0 or wanted[-1] >= len(index):
        raise VideoError(index.path, f'has frames 0 to {len(index) - 1}; wanted {wanted[:8]}')
    images = index.decode(wanted)
    for number in wanted:
        if number not in images:
            raise VideoError(index.path, f'frame {number} of {len(index)} cannot be decoded')
    first = images[wanted[0]]
    for number in wanted:
        if images[number].shape != first.shape:
            sizes = [f'{image.shape[1]} x {image.shape[0]}' for image in (first, images[number])]
            raise VideoError(
                index.path,
                f'frame {number} is {sizes[1]}, frame {wanted[0]} {sizes[0]}; expected one size',
            )
    return np.stack([images[int(number)] for number in numbers])


def _by_counting(index: VideoIndex, wanted: list[int]) -> dict[int, np.ndarray]:
    images: dict[int, np.ndarray] = {}
    with VideoReader(index.path) as reader:
        for number, frame in enumerate(reader):
            if number in wanted:
                images[number] = frame.to_rgb()
            if number >= wanted[-1]:
                break
    return images


def _by_time_stamps(
    index: VideoIndex, pts: np.ndarray, wanted: list[int]
) -> dict[int, np.ndarray]:
    numbers = {int(pts[number]): number for number in wanted}
    images = _decode_from(index, numbers, seek_to=int(pts[wanted[0]]))
    if len(images) < len(wanted):
        # Some files seek to a later frame than asked for: from the beginning, then.
        images = _decode_from(index, numbers, seek_to=None)
    return images


def _decode_from(
    index: VideoIndex, numbers: dict[int, int], *, seek_to: int | None
) -> dict[int, np.ndarray]:
    images: dict[int, np.ndarray] = {}
    last = max(numbers)
    try:
        with av.open(str(index.path), metadata_errors='replace') as container:
            stream: Any = container.streams.video[0]
            stream.thread_type = 'AUTO'
            if seek_to is not None:
                container.seek(seek_to, stream=stream, backward=True)
            for decoded in container.decode(stream):
                if decoded.pts in numbers:
                    if decoded.is_corrupt:
                        # FFmpeg would paint over the gap and go on.
                        raise VideoError(index.path, f'damaged at {decoded.time:.3f} s')
                    images[numbers[decoded.pts]] = VideoFrame(0.0, decoded).to_rgb()
                if decoded.pts is not None and decoded.pts >= last:
                    break
    except (av.FFmpegError, OSError) as error:
        raise VideoError(index.path, f'cannot be decoded: {reason_of(error)}') from error
    return images
