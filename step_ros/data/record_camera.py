"""Where recorded examples come from: a camera, a video file, or the tabletop acting them out."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from step_ros.data.tabletop import TASKS, render_clip
from step_ros.data.tabletop_lessons import LESSONS, render_lesson
from step_ros.data.video import VideoError, VideoReader
from step_ros.stream.grid import NANOSECONDS

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
        render = render_lesson if label in LESSONS else render_clip
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
    if label not in LESSONS and label not in TASKS['action']:
        raise ValueError(
            f'label {label!r}: the demo can act out {", ".join((*LESSONS, *TASKS["action"]))}'
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
