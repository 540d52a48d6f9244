# SPDX-License-Identifier: Apache-2.0
"""Cameras to record examples from: a device, a video file, or the tabletop that acts a label out.

Each yields frames with their stamps. `open_camera` chooses one by the text that a user types.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from step_ros.io.video import VideoError, VideoReader
from step_ros.streaming.grid import NANOSECONDS
from step_ros.tabletop.simulator import TASKS, render_clip
from step_ros.tabletop.unseen_actions import UNSEEN_ACTIONS, render_unseen_action

# The source that means the tabletop.
DEMO = 'demo'
DEMO_SIZE = (320, 240)
DEMO_RATE = 20.0
# Far from the scenes that trained and evaluated the shipped model.
_DEMO_SEED = 7_000_000

Stamped = tuple[int, np.ndarray]


class RecordCamera(Protocol):
    """A camera that yields frames with stamps.

    Attributes:
        rate: Nominal frames per second.
        live: Whether frames arrive in real time; if not, the reader must wait between them.
        acts: Whether each call of `frames` yields exactly one whole action.
    """

    rate: float
    live: bool
    acts: bool

    def frames(self, label: str) -> Iterator[Stamped]:
        """Yield the next frames: ascending stamps in nanoseconds, and images, uint8 RGB.

        Args:
            label: The label to show; only the tabletop uses it.
        """

    def close(self) -> None:
        """Release the device or file."""


def open_camera(source: str, *, seed: int = 0, split: str = 'train') -> RecordCamera:
    """Open a camera by its number, a video file by its path, or the tabletop as `demo`.

    Args:
        source: The number, the path or `demo`.
        seed: First scene of the tabletop.
        split: Split of the tabletop.

    Raises:
        VideoError: The camera or file cannot be opened.
    """
    if source == DEMO:
        return DemoCamera(seed=seed, split=split)
    if source.isdigit():
        return DeviceCamera(int(source))
    return FileCamera(Path(source))


def check_demo_label(label: str) -> None:
    """Refuse a label that the tabletop cannot act out.

    Raises:
        ValueError: The tabletop knows no action of that name; the message lists its actions.
    """
    if label not in UNSEEN_ACTIONS and label not in TASKS['action']:
        known = ', '.join((*UNSEEN_ACTIONS, *TASKS['action']))
        raise ValueError(f'label {label!r}: the demo cannot act it out; expected one of {known}')


class DeviceCamera:
    """A camera of this machine.

    Args:
        number: N of the device `/dev/videoN`.

    Raises:
        VideoError: The device is missing or gives no images.
    """

    live = True
    acts = False

    def __init__(self, number: int) -> None:
        self._path = Path(f'/dev/video{number}')
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise VideoError(
                self._path, 'no camera can be opened; check that it is connected and not in use'
            )
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS)) or 30.0

    def frames(self, label: str) -> Iterator[Stamped]:
        """Yield images of the camera until the caller stops; the label is ignored.

        Raises:
            VideoError: The camera stops.
        """
        del label
        while True:
            received, image_hw3 = self._capture.read()
            if not received:
                raise VideoError(self._path, 'the camera stopped sending images')
            yield time.monotonic_ns(), cv2.cvtColor(image_hw3, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


class FileCamera:
    """A video file, read once from its first frame to its last.

    Args:
        path: The file.

    Raises:
        VideoError: The file cannot be read.
    """

    live = False
    acts = False

    def __init__(self, path: Path) -> None:
        self._reader = VideoReader(path)
        self.rate = self._reader.rate or 30.0
        self._frames = iter(self._reader)

    def frames(self, label: str) -> Iterator[Stamped]:
        """Yield the remaining frames; the label is ignored.

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
    """The synthetic tabletop, which acts out the label, each time in another scene.

    Args:
        seed: Number of the first scene.
        split: Split of the tabletop; `test` has other speeds and textures than `train`.

    Raises:
        ValueError: The split does not exist.
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
            label: An action of the tabletop, known to its models or not.

        Raises:
            ValueError: The tabletop knows no action of that name.
        """
        check_demo_label(label)
        render = render_unseen_action if label in UNSEEN_ACTIONS else render_clip
        clip = render(label, seed=self._seed, split=self._split, size=DEMO_SIZE, rate=DEMO_RATE)
        self._seed += 1
        # Each action follows the one before it, so that stamps ascend over all of them.
        origin_ns = self._origin_ns
        self._origin_ns += int(clip.stamps_ns[-1] + NANOSECONDS / DEMO_RATE)
        for stamp_ns, image_hw3 in zip(clip.stamps_ns, clip.frames_thwc, strict=True):
            yield origin_ns + int(stamp_ns), image_hw3

    def close(self) -> None:
        """Do nothing: the tabletop holds no resource."""
