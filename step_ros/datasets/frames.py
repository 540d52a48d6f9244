"""Read exact frames of a video or of a bag's camera by their numbers.

An index holds the time of each frame; reading seeks near the wanted frames instead of decoding all
earlier ones. No file stays open, and other processes can receive an index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.datasets.identity import SourceState, source_state
from step_ros.files import pointer_kind
from step_ros.io.video import VideoError, VideoFrame, VideoReader, open_container, reason_of
from step_ros.streaming.grid import NANOSECONDS

# Number of cached indices. The clips of one long video usually follow each other.
_CACHED_INDICES = 8


class FrameIndex(Protocol):
    """Time of each frame of a video or a bag's camera, and access to frames by their numbers."""

    @property
    def path(self) -> Path:
        """The video file or the bag."""

    @property
    def stamps_ns(self) -> np.ndarray:
        """Nanoseconds from the first frame, ascending, `[f]`."""

    def __len__(self) -> int: ...

    def decode(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """Return frames by their numbers, uint8 RGB, `[h, w, 3]`; undecodable ones may be missing.

        Raises:
            VideoError: A frame cannot be decoded.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoIndex:
    """Presentation time of each frame of a video.

    Attributes:
        path: The file.
        stamps_ns: Nanoseconds from the first frame, ascending, `[f]`.
        pts: Time stamps of the frames in the container; None if it has none, so that frames must
            be counted.
    """

    path: Path
    stamps_ns: np.ndarray
    pts: np.ndarray | None

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def decode(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """Return frames by their numbers, uint8 RGB, `[h, w, 3]`; the file is closed afterwards.

        Raises:
            VideoError: The file cannot be decoded.
        """
        numbers = sorted(set(wanted))
        if self.pts is None:
            return _by_counting(self, numbers)
        return _by_time_stamps(self, self.pts, numbers)


def index_clip(record: ClipRecord) -> FrameIndex:
    """Return the frame index of a clip's video or camera; recent ones are cached.

    Raises:
        VideoError: The video or bag is missing, damaged or without frames.
    """
    return _cached_index(record.video, record.topic, source_state(record.video))


def index_camera(path: Path, topic: str = '') -> FrameIndex:
    """Return the frame index of a video, or of a bag's camera.

    Args:
        path: The video or the bag.
        topic: Image topic of the bag; empty for a video.

    Raises:
        VideoError: The video or bag is missing, damaged or without frames.
    """
    if not topic:
        return index_video(path)
    # Imported late: it needs rosbags, which is optional.
    from step_ros.io.bags.reader import index_bag

    return index_bag(path, topic)


@lru_cache(maxsize=_CACHED_INDICES)
def _cached_index(path: Path, topic: str, _state: SourceState) -> FrameIndex:
    """Return `index_camera`; a file that was replaced has another state, and so another entry."""
    return index_camera(path, topic)


def index_video(path: str | Path) -> VideoIndex:
    """Return the frame index of a video, from the time stamps of its packets.

    Nothing is decoded, unless the file has no usable time stamps; then it is decoded once.

    Raises:
        VideoError: The file is missing, no video or without frames.
    """
    path = Path(path)
    try:
        with open_container(path) as container:
            if not container.streams.video:
                raise VideoError(path, 'it has no video stream')
            stream = container.streams.video[0]
            time_base = stream.time_base
            packets = [packet for packet in container.demux(stream) if packet.size]
    except FileNotFoundError as error:
        raise VideoError(path, 'there is no such file') from error
    except (av.FFmpegError, OSError) as error:
        why = pointer_kind(path) or f'FFmpeg cannot read it: {reason_of(error)}'
        raise VideoError(path, why) from error
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
    """Return the numbers of the frames in a span, ascending; of all frames for None.

    Raises:
        VideoError: The span holds no frame, or ends after the last frame.
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
    # Whole nanoseconds: a rounding error in seconds must not exclude the frame at the start.
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
    """Return frames by their numbers; the file is closed afterwards.

    Args:
        index: Index of the video or of the bag's camera.
        numbers: Numbers of the frames, in any order and also repeated.

    Returns:
        The frames in that order, uint8 RGB, `[t, h, w, 3]`.

    Raises:
        VideoError: A frame does not exist or cannot be decoded, or frames differ in size.
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
        # Some files seek to a frame after the requested one; decode from the start instead.
        images = _decode_from(index, numbers, seek_to=None)
    return images


def _decode_from(
    index: VideoIndex, numbers: dict[int, int], *, seek_to: int | None
) -> dict[int, np.ndarray]:
    images: dict[int, np.ndarray] = {}
    last = max(numbers)
    try:
        with open_container(index.path) as container:
            stream: Any = container.streams.video[0]
            stream.thread_type = 'AUTO'
            if seek_to is not None:
                container.seek(seek_to, stream=stream, backward=True)
            for decoded in container.decode(stream):
                if decoded.pts in numbers:
                    if decoded.is_corrupt:
                        # FFmpeg would conceal the gap and return a wrong image.
                        raise VideoError(index.path, f'damaged at {decoded.time:.3f} s')
                    images[numbers[decoded.pts]] = VideoFrame(0.0, decoded).to_rgb()
                if decoded.pts is not None and decoded.pts >= last:
                    break
    except (av.FFmpegError, OSError) as error:
        raise VideoError(index.path, f'cannot be decoded: {reason_of(error)}') from error
    return images
