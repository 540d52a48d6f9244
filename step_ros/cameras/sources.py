"""What the camera node shows: a cursor over stream time that never falls behind."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from step_ros.io.video import VideoError, VideoFrame, VideoReader
from step_ros.streaming.grid import NANOSECONDS
from step_ros.tabletop.simulator import TASKS, ActionSegment, Tabletop, render_clip
from step_ros.tabletop.unseen_actions import UNSEEN_ACTIONS, render_unseen_action

TABLETOP_SIZE = (640, 480)


class CameraSource(Protocol):
    """A sequence of images in stream time, which begins at zero."""

    @property
    def skipped(self) -> int:
        """Frames left out since the restart, because they were overdue."""

    def restart(self) -> None:
        """Go back to stream time zero."""

    def advance(self, now_ns: int) -> int | None:
        """Go to the next frame, or to the newest one that is due if several are.

        Args:
            now_ns: Present stream time in nanoseconds.

        Returns:
            The frame's stream time in nanoseconds; None at the end.
        """

    def image(self) -> np.ndarray:
        """Return the present frame, uint8 RGB `[h, w, 3]`."""

    def segment(self) -> ActionSegment | None:
        """Return what is going on in the present frame, where that is known."""


class Grid:
    """Stream times on an exact grid of one period.

    Args:
        rate: Frames per second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.restart()

    def restart(self) -> None:
        """Go back to before the first frame."""
        self._index = -1
        self.skipped = 0

    def advance(self, now_ns: int) -> int:
        """Go to the next point, or to the newest one that is due if several are."""
        due = int(now_ns * self._rate / NANOSECONDS)
        following = self._index + 1
        self._index = max(following, due)
        self.skipped += self._index - following
        # From the index each time: a sum of rounded periods would drift.
        return round(self._index * NANOSECONDS / self._rate)


def output_size(width: int, height: int, own: tuple[int, int]) -> tuple[int, int]:
    """Fill in the width or height that is 0, by the source's aspect ratio, to an even number."""
    own_width, own_height = own
    if not width and not height:
        return own
    if not width:
        width = max(2, 2 * round(height * own_width / own_height / 2))
    if not height:
        height = max(2, 2 * round(width * own_height / own_width / 2))
    return width, height


class TabletopSource:
    """The synthetic tabletop, at a fixed rate.

    Args:
        seed: Number of the scene within its split.
        split: `train`, `val` or `test`.
        view: `front`, `side` or `top`.
        rate: Frames per second.
        width: Image width in pixels, or 0.
        height: Image height in pixels, or 0.

    Raises:
        ValueError: The rate is 0.
    """

    def __init__(
        self, *, seed: int, split: str, view: str, rate: float, width: int, height: int
    ) -> None:
        if not rate > 0:
            raise ValueError(
                'parameter rate is 0, but the tabletop has no frame times of its own; '
                'expected a rate in Hz'
            )
        self._tabletop = Tabletop(seed=seed, split=split)
        self._view = view
        self._size = output_size(width, height, TABLETOP_SIZE)
        self._grid = Grid(rate)
        self._time_s = 0.0

    @property
    def skipped(self) -> int:
        """Frames left out since the restart."""
        return self._grid.skipped

    def restart(self) -> None:
        """Go back to stream time zero, in the same scene."""
        self._grid.restart()

    def advance(self, now_ns: int) -> int | None:
        """Go to the next frame; there always is one."""
        time_ns = self._grid.advance(now_ns)
        self._time_s = time_ns / NANOSECONDS
        return time_ns

    def image(self) -> np.ndarray:
        """Render the present frame."""
        image_hw3: np.ndarray = self._tabletop.render(
            self._time_s, camera=self._view, size=self._size
        )
        return image_hw3

    def segment(self) -> ActionSegment | None:
        """Return the action of the present frame."""
        return self._tabletop.segment_at(self._time_s)


class VideoSource:
    """A video file, at its own frame times or shown at a fixed rate.

    Args:
        path: The file.
        rate: Frames per second; 0 for the frames' own times.
        loop: Whether to begin again at the end.
        width: Image width in pixels, or 0.
        height: Image height in pixels, or 0.

    Raises:
        VideoError: The file cannot be read.
    """

    def __init__(self, path: str, *, rate: float, loop: bool, width: int, height: int) -> None:
        self._reader = VideoReader(path)
        self._grid = Grid(rate) if rate else None
        self._loop = loop
        self._size = output_size(width, height, (self._reader.width, self._reader.height))
        self.restart()

    @property
    def skipped(self) -> int:
        """Frames left out since the restart."""
        return self._grid.skipped if self._grid else self._passed

    def restart(self) -> None:
        """Go back to the first frame."""
        if self._grid:
            self._grid.restart()
        self._passed = 0
        self._frames = self._timed_frames()
        self._present: VideoFrame | None = None
        self._following = next(self._frames, None)
        self._image_hw3: np.ndarray | None = None

    def advance(self, now_ns: int) -> int | None:
        """Go to the next frame that is due, or wait at the next one that will be."""
        if self._grid:
            time_ns = self._grid.advance(now_ns)
            self._take_until(time_ns)
            return time_ns if time_ns < self._end_ns or self._following else None
        if self._following is None:
            return None
        self._take()
        self._passed += self._take_until(now_ns)
        return self._present_ns

    def image(self) -> np.ndarray:
        """Convert and resize the present frame; a frame shown again is not converted again."""
        assert self._present is not None
        if self._image_hw3 is None:
            image_hw3 = self._present.to_rgb()
            if self._size != (image_hw3.shape[1], image_hw3.shape[0]):
                shrinks = self._size[0] < image_hw3.shape[1]
                how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
                image_hw3 = cv2.resize(image_hw3, self._size, interpolation=how)
            self._image_hw3 = image_hw3
        return self._image_hw3

    def segment(self) -> ActionSegment | None:
        """Return None: a video does not know what it shows."""
        return None

    def _take(self) -> None:
        assert self._following is not None
        self._present_ns, self._present = self._following
        self._image_hw3 = None
        self._following = next(self._frames, None)

    def _take_until(self, time_ns: int) -> int:
        taken = 0
        while self._following is not None and self._following[0] <= time_ns:
            self._take()
            taken += 1
        return taken

    def _timed_frames(self) -> Iterator[tuple[int, VideoFrame]]:
        offset_s = 0.0
        while True:
            last_s, period_s = 0.0, 1.0 / (self._reader.rate or 30.0)
            for frame in self._reader:
                last_s = frame.time_s
                time_ns = round((offset_s + last_s) * NANOSECONDS)
                self._end_ns = round((offset_s + last_s + period_s) * NANOSECONDS)
                yield time_ns, frame
            if not self._loop:
                return
            offset_s += last_s + period_s


# ---- Where recorded examples come from: a camera, a video file, or the tabletop acting them out.

DEMO = 'demo'

DEMO_SIZE = (320, 240)

DEMO_RATE = 20.0

# Clear of the scenes that the shipped model was trained on and is judged by.
_DEMO_SEED = 7_000_000

Stamped = tuple[int, np.ndarray]


class RecordCamera(Protocol):
    """Frames with stamps, one after the other.

    Attributes:
        rate: Nominal frames per second.
        live: Whether frames come at their own time; else whoever reads must wait for it.
        acts: Whether each turn shows one whole action, whatever its length.
    """

    rate: float
    live: bool
    acts: bool

    def frames(self, label: str) -> Iterator[Stamped]:
        """Go on; yields the stamp in nanoseconds, ascending, and the image, uint8 RGB.

        Args:
            label: What is to be shown; only the tabletop can act on it.
        """

    def close(self) -> None:
        """Let go of the device or file."""


class DeviceCamera:
    """A camera of this machine.

    Args:
        number: Which, as in `/dev/videoN`.

    Raises:
        VideoError: There is none, or it gives no images.
    """

    live = True
    acts = False

    def __init__(self, number: int) -> None:
        self._path = Path(f'/dev/video{number}')
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise VideoError(
                self._path, 'no camera can be opened there; is it connected, and free?'
            )
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS)) or 30.0

    def frames(self, label: str) -> Iterator[Stamped]:
        """Yield what the camera sees; the label is of no matter.

        Raises:
            VideoError: The camera stops.
        """
        del label
        while True:
            there, image_hw3 = self._capture.read()
            if not there:
                raise VideoError(self._path, 'the camera gives no more images')
            yield time.monotonic_ns(), cv2.cvtColor(image_hw3, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()


class FileCamera:
    """A video file, from its first frame to its last.

    Args:
        path: The file.

    Raises:
        VideoError: It cannot be read.
    """

    live = False
    acts = False

    def __init__(self, path: Path) -> None:
        self._reader = VideoReader(path)
        self.rate = self._reader.rate or 30.0
        self._frames = iter(self._reader)

    def frames(self, label: str) -> Iterator[Stamped]:
        """Yield the frames that are left; the label is of no matter.

        Raises:
            VideoError: The file is damaged.
        """
        del label
        for frame in self._frames:
            yield round(frame.time_s * NANOSECONDS), frame.to_rgb()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class DemoCamera:
    """The tabletop, which acts out what is to be recorded: each time in another scene.

    Args:
        seed: Number of the first scene.
        split: Split of the tabletop; `test` has other speeds and textures than `train`.

    Raises:
        ValueError: There is no such split.
    """

    rate = DEMO_RATE
    live = False
    acts = True

    def __init__(self, *, seed: int = 0, split: str = 'train') -> None:
        self._seed, self._split = _DEMO_SEED + seed, split
        self._origin_ns = 0

    def frames(self, label: str) -> Iterator[Stamped]:
        """Yield one whole action.

        Args:
            label: A lesson or an action of the tabletop.

        Raises:
            ValueError: It is neither.
        """
        check_demo_label(label)
        render = render_unseen_action if label in UNSEEN_ACTIONS else render_clip
        clip = render(label, seed=self._seed, split=self._split, size=DEMO_SIZE, rate=DEMO_RATE)
        self._seed += 1
        origin_ns = self._origin_ns
        self._origin_ns += int(clip.stamps_ns[-1] + NANOSECONDS / DEMO_RATE)
        for stamp_ns, image_hw3 in zip(clip.stamps_ns, clip.frames_thwc, strict=True):
            yield origin_ns + int(stamp_ns), image_hw3

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""


def check_demo_label(label: str) -> None:
    """Refuse a label that the tabletop cannot act out.

    Raises:
        ValueError: It is neither a lesson nor an action; lists them.
    """
    if label not in UNSEEN_ACTIONS and label not in TASKS['action']:
        raise ValueError(
            f'label {label!r}: the demo can act out '
            + ', '.join((*UNSEEN_ACTIONS, *TASKS['action']))
        )


def open_camera(source: str, *, seed: int = 0, split: str = 'train') -> RecordCamera:
    """Open a camera by its number, a video file by its path, or the tabletop as `demo`.

    Args:
        source: Which.
        seed: Scene of the tabletop.
        split: Split of the tabletop.

    Raises:
        VideoError: It cannot be opened.
    """
    if source == DEMO:
        return DemoCamera(seed=seed, split=split)
    if source.isdigit():
        return DeviceCamera(int(source))
    return FileCamera(Path(source))
