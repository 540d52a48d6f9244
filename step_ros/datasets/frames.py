# SPDX-License-Identifier: Apache-2.0
"""Read exact frames of a video or of a bag's camera by their numbers.

An index holds the time of each frame; reading seeks near the wanted frames instead of decoding all
earlier ones. No file stays open, and other processes can receive an index.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.datasets.identity import SourceState, source_state
from step_ros.files import pointer_kind
from step_ros.io.video import (
    Orientations,
    RestartError,
    VideoError,
    VideoFrame,
    VideoReader,
    open_container,
    reason_of,
    until_restart,
)
from step_ros.streaming.grid import NANOSECONDS

# Number of cached indices. The clips of one long video usually follow each other.
_CACHED_INDICES = 8

# A header may give this many seconds more than the file holds before the file counts as cut short.
_HEADER_SLACK_S = 0.5

# Frames that are decoded after the last wanted one in search of a missing frame: two exchanged
# time stamps put it there.
_FRAMES_BEYOND = 2

# Frames of a bag that a check decodes before it drops their images.
_CHECKED_AT_ONCE = 16


class FrameIndex(Protocol):
    """Time of each frame of a video or a bag's camera, and access to frames by their numbers."""

    @property
    def path(self) -> Path:
        """The video file or the bag."""

    @property
    def stamps_ns(self) -> np.ndarray:
        """Nanoseconds from the first frame, ascending, `[f]`."""

    @property
    def last_frame_ns(self) -> int:
        """Nanoseconds that the last frame lasts; 0 if unknown."""

    @property
    def ends_early(self) -> str:
        """Why frames are missing after the last one; empty if none are known to be."""

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
        pts: Time stamps of the frames in the container; None if it has none or they do not name a
            frame, so that frames must be counted.
        last_frame_ns: Nanoseconds that the last frame lasts; 0 if unknown.
        ends_early: Why frames are missing after the last one: the file is cut short, or its time
            stamps begin anew. Empty if none are known to be missing.
    """

    path: Path
    stamps_ns: np.ndarray
    pts: np.ndarray | None
    last_frame_ns: int = 0
    ends_early: str = ''

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def decode(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """Return frames by their numbers, uint8 RGB, `[h, w, 3]`; the file is closed afterwards.

        Raises:
            VideoError: The file cannot be decoded.
        """
        return {number: frame.to_rgb() for number, frame in self.find(wanted)}

    def find(self, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield frames by their numbers, decoded but not converted; missing ones are left out.

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

    Nothing is decoded, unless the file has no usable time stamps; then it is decoded once. The
    index ends where the time stamps begin anew or go back.

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
            found = (packet for packet in container.demux(stream) if packet.size)
            packets = list(until_restart(found))
            header_s = _header_s(container, stream)
    except FileNotFoundError as error:
        raise VideoError(path, 'there is no such file') from error
    except (av.FFmpegError, OSError) as error:
        why = pointer_kind(path) or f'FFmpeg cannot read it: {reason_of(error)}'
        raise VideoError(path, why) from error
    restarts = bool(packets) and packets[-1] is None
    shown = [packet for packet in packets if packet is not None and not packet.is_discard]
    stamps = [packet.pts for packet in shown]
    # In a file with a restart, a time stamp does not name a frame: seeking may find the other one.
    if (
        restarts
        or not stamps
        or None in stamps
        or time_base is None
        or len(set(stamps)) != len(stamps)
    ):
        return _index_by_decoding(path)
    pts = np.sort(np.asarray(stamps, dtype=np.int64))
    elapsed = [int((value - int(pts[0])) * time_base * NANOSECONDS) for value in pts.tolist()]
    last = max(shown, key=lambda packet: packet.pts)
    return VideoIndex(
        path=path,
        stamps_ns=np.asarray(elapsed, dtype=np.int64),
        pts=pts,
        last_frame_ns=int((last.duration or 0) * time_base * NANOSECONDS),
        ends_early=_cut_short(path, header_s, float(last.pts * time_base)),
    )


def _index_by_decoding(path: Path) -> VideoIndex:
    times: list[float] = []
    ends_early = ''
    with VideoReader(path) as reader:
        try:
            for frame in reader:
                times.append(frame.time_s)
        except RestartError as error:
            ends_early = error.why
    stamps_ns = np.round(np.asarray(times) * NANOSECONDS).astype(np.int64)
    backwards = np.flatnonzero(np.diff(stamps_ns) < 0)
    if len(backwards):
        number = int(backwards[0]) + 1
        stamps_ns = stamps_ns[:number]
        ends_early = (
            f'frame {number} of {len(times)} is stamped {times[number]:.3f} s, the frame before '
            f'it {times[number - 1]:.3f} s; expected ascending time stamps: encode it again'
        )
    return VideoIndex(path=path, stamps_ns=stamps_ns, pts=None, ends_early=ends_early)


def _header_s(container: Any, stream: Any) -> float:
    """Return the length in seconds that a video's header names; 0 if no header names it.

    FFmpeg computes the length of other formats from the size of the file, which is a guess.
    """
    kinds = container.format.name.split(',')
    if 'avi' in kinds:
        return float(stream.frames / stream.average_rate) if stream.average_rate else 0.0
    if 'mp4' in kinds or 'matroska' in kinds:
        return float((container.duration or 0) / av.time_base)
    return 0.0


def _cut_short(path: Path, header_s: float, last_s: float) -> str:
    """Return why frames are missing at the end, or an empty text.

    Args:
        path: The file.
        header_s: Length in the header, in seconds.
        last_s: Time stamp of the last frame in seconds.
    """
    if header_s <= last_s + _HEADER_SLACK_S:
        return ''
    # The last frame may last long, and sound may go on after it.
    ends_s = [last_s]
    with open_container(path) as container:
        starts_s = [0.0]
        for packet in container.demux():
            if packet.pts is not None and packet.time_base:
                starts_s.append(float(packet.pts * packet.time_base))
                ends_s.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
    length_s = max(ends_s) - min(starts_s)
    if header_s <= length_s + _HEADER_SLACK_S:
        return ''
    return (
        f'the file is cut short: its header says {header_s:.3f} s, its data ends at '
        f'{length_s:.3f} s'
    )


def span_frames(index: FrameIndex, span: Span | None) -> np.ndarray:
    """Return the numbers of the frames in a span, ascending; of all frames for None.

    Raises:
        VideoError: The span holds no frame or ends after the last frame, or the whole video is
            wanted and frames are missing at its end.
    """
    because = f'; {index.ends_early}' if index.ends_early else ''
    if span is None:
        if index.ends_early:
            raise VideoError(
                index.path,
                f'its end is missing: {index.ends_early}. Name the part to use by start and end',
            )
        return np.arange(len(index))
    if span.unit == 'frames':
        if span.end > len(index):
            raise VideoError(
                index.path,
                f'span {span.start:g} to {span.end:g}: the video has {len(index)} frames{because}',
            )
        return np.arange(int(span.start), int(span.end))
    # Whole nanoseconds: a rounding error in seconds must not exclude the frame at the start.
    start_ns, end_ns = round(span.start * NANOSECONDS), round(span.end * NANOSECONDS)
    inside = (index.stamps_ns >= start_ns) & (index.stamps_ns < end_ns)
    numbers = np.flatnonzero(inside)
    last = index.stamps_ns[-1] / NANOSECONDS
    wrong = f'span {span.start:g} s to {span.end:g} s'
    if not len(numbers):
        raise VideoError(index.path, f'{wrong} holds no frame; the last is at {last:g} s{because}')
    end, step = video_end_ns(index) / NANOSECONDS, _step_ns(index) / NANOSECONDS
    # Annotations round their times, so one more frame is allowed.
    if span.end > end + step:
        raise VideoError(
            index.path,
            f'{wrong} ends after the video; expected at most {end:.3f} s ({len(index)} frames)'
            f'{because}',
        )
    return numbers


def _step_ns(index: FrameIndex) -> int:
    """Return the nanoseconds from one frame to the next; a second if the index has no two."""
    if len(index) < 2:
        return index.last_frame_ns or NANOSECONDS
    return round(float(np.median(np.diff(index.stamps_ns))))


def video_end_ns(index: FrameIndex) -> int:
    """Return the time at which the last frame ends, in nanoseconds from the first frame."""
    return int(index.stamps_ns[-1]) + max(index.last_frame_ns, _step_ns(index))


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
    _check_found(index, wanted, {number: image.shape[1::-1] for number, image in images.items()})
    return np.stack([images[int(number)] for number in numbers])


def check_frames(index: FrameIndex, numbers: np.ndarray | list[int]) -> None:
    """Check that `read_frames` can return frames, without keeping their images.

    Args:
        index: Index of the video or of the bag's camera.
        numbers: Numbers of the frames, ascending.

    Raises:
        VideoError: As in `read_frames`.
    """
    wanted = [int(number) for number in numbers]
    sizes: dict[int, tuple[int, int]] = {}
    if isinstance(index, VideoIndex):
        for number, frame in index.find(wanted):
            sizes[number] = frame.size
    else:
        for at in range(0, len(wanted), _CHECKED_AT_ONCE):
            images = index.decode(wanted[at : at + _CHECKED_AT_ONCE])
            sizes |= {number: image.shape[1::-1] for number, image in images.items()}
    _check_found(index, wanted, sizes)


def _check_found(
    index: FrameIndex, wanted: Sequence[int], sizes: Mapping[int, tuple[int, int]]
) -> None:
    """Check that all wanted frames were decoded, and to one size (width, height)."""
    for number in wanted:
        if number not in sizes:
            raise VideoError(index.path, f'frame {number} of {len(index)} cannot be decoded')
    first = sizes[wanted[0]]
    for number in wanted:
        if sizes[number] != first:
            names = [f'{width} x {height}' for width, height in (first, sizes[number])]
            raise VideoError(
                index.path,
                f'frame {number} is {names[1]}, frame {wanted[0]} {names[0]}; expected one size',
            )


def _by_counting(index: VideoIndex, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    chosen = set(wanted)
    with VideoReader(index.path) as reader:
        for number, frame in enumerate(reader):
            if number in chosen:
                yield number, frame
            if number >= wanted[-1]:
                return


def _by_time_stamps(
    index: VideoIndex, pts: np.ndarray, wanted: Sequence[int]
) -> Iterator[tuple[int, VideoFrame]]:
    numbers = {int(pts[number]): number for number in wanted}
    for number, frame in _decode_from(index, numbers, seek_to=int(pts[wanted[0]])):
        del numbers[int(pts[number])]
        yield number, frame
    if numbers:
        # Some files seek to a frame after the requested one; decode from the start instead.
        yield from _decode_from(index, numbers, seek_to=None)


def _decode_from(
    index: VideoIndex, wanted: Mapping[int, int], *, seek_to: int | None
) -> Iterator[tuple[int, VideoFrame]]:
    numbers = dict(wanted)
    last, beyond = max(numbers), 0
    orientations = Orientations(index.path)
    try:
        with open_container(index.path) as container:
            stream: Any = container.streams.video[0]
            stream.thread_type = 'AUTO'
            if seek_to is not None:
                container.seek(seek_to, stream=stream, backward=True)
            for decoded in container.decode(stream):
                number = numbers.pop(decoded.pts, None)
                if number is not None:
                    if decoded.is_corrupt:
                        # FFmpeg would conceal the gap and return a wrong image.
                        raise VideoError(index.path, f'damaged at {decoded.time:.3f} s')
                    yield number, VideoFrame(0.0, decoded, orientations)
                beyond += decoded.pts is not None and decoded.pts >= last
                if not numbers or beyond > _FRAMES_BEYOND:
                    return
    except (av.FFmpegError, OSError) as error:
        raise VideoError(index.path, f'cannot be decoded: {reason_of(error)}') from error
