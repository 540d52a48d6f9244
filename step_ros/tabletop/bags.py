# SPDX-License-Identifier: Apache-2.0
"""Annotated bags of the synthetic tabletop, for tutorials and tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from step_ros.io.bags.reader import END, START, BagEvent
from step_ros.io.bags.writer import BagWriter, Storage
from step_ros.streaming.grid import NANOSECONDS
from step_ros.tabletop.simulator import CAMERA_NAMES, ActionSegment, Tabletop

# Stamp at which every recording begins; a stamp of zero would mean that it was not set.
ZERO_NS = 1_700_000_000 * NANOSECONDS
_CAMERA = 'camera'


@dataclass(frozen=True, kw_only=True)
class BagCameras:
    """The cameras that film the tabletop.

    Attributes:
        views: One of `CAMERA_NAMES` for each camera.
        width: Image width in pixels.
        height: Image height in pixels.
        rate: Images per second.
        compressed: Whether images are JPEG.

    Raises:
        ValueError: A view is unknown or named twice, or a number is not above 0.
    """

    views: tuple[str, ...] = ('front',)
    width: int = 320
    height: int = 240
    rate: float = 15.0
    compressed: bool = False

    def __post_init__(self) -> None:
        for view in self.views:
            if view not in CAMERA_NAMES or self.views.count(view) > 1:
                raise ValueError(
                    f'view {view!r}: expected {", ".join(CAMERA_NAMES)}, each at most once'
                )
        if not self.views or min(self.width, self.height, self.rate) <= 0:
            raise ValueError(f'{self}: expected at least one view, and a size and a rate above 0')

    def name(self, view: str) -> str:
        """Return the camera's name; a single camera has the default name of the camera node."""
        return view if len(self.views) > 1 else _CAMERA

    def topic(self, view: str) -> str:
        """Return the topic of a view's images."""
        return f'/{self.name(view)}/image_raw' + ('/compressed' if self.compressed else '')

    @property
    def truth_topic(self) -> str:
        """Topic of the annotation."""
        return '/truth' if len(self.views) > 1 else f'/{_CAMERA}/truth'


def record_tabletop(
    path: Path,
    *,
    seed: int,
    split: str,
    seconds: float,
    storage: Storage = 'mcap',
    camera: BagCameras | None = None,
) -> float:
    """Record a scene as a bag of images, with its actions as `ActionEvent` messages.

    The last action is filmed to its end, so every action has a START and an END. The same
    arguments give the same messages.

    Args:
        path: The folder to write; it must not exist.
        seed: Number of the scene within its split.
        split: `train`, `val` or `test`.
        seconds: The least duration of the recording.
        storage: `mcap` or `sqlite3`.
        camera: The cameras; None for the defaults.

    Returns:
        Duration of the recording in seconds.

    Raises:
        FileExistsError: A file or folder of that name exists.
        ValueError: An argument is unknown or out of range.
    """
    if not seconds > 0:
        raise ValueError(f'seconds={seconds}: expected more than 0')
    camera = camera or BagCameras()
    tabletop = Tabletop(seed=seed, split=split)
    end_s = tabletop.segment_at(seconds).end_s
    before: ActionSegment | None = None
    path.parent.mkdir(parents=True, exist_ok=True)
    with BagWriter(path, storage) as writer:
        for number in range(math.ceil(end_s * camera.rate)):
            time_s = number / camera.rate
            segment = tabletop.segment_at(time_s)
            if before is None or segment.start_s != before.start_s:
                _annotate(writer, camera.truth_topic, before, segment)
            before = segment
            for view in camera.views:
                writer.image(
                    camera.topic(view),
                    tabletop.render(time_s, camera=view, size=(camera.width, camera.height)),
                    _stamp(time_s),
                    f'{camera.name(view)}_optical_frame',
                    encoding='jpeg' if camera.compressed else 'rgb8',
                )
        _annotate(writer, camera.truth_topic, before, None)
    return end_s


def scene_names(count: int, seed: int) -> Sequence[tuple[str, int]]:
    """Return the folder name and the seed of each of `count` scenes; the first seed is `seed`."""
    return [(f'scene_{number:03d}', number) for number in range(seed, seed + count)]


def _annotate(
    writer: BagWriter, topic: str, before: ActionSegment | None, segment: ActionSegment | None
) -> None:
    """Write the END of the previous action and the START of the next, at their exact times."""
    for each, kind in ((before, END), (segment, START)):
        if each is None:
            continue
        stamp_ns = _stamp(each.end_s if kind == END else each.start_s)
        for task, label in each.labels.items():
            event = BagEvent(
                type=kind,
                stamp_ns=stamp_ns,
                start_ns=_stamp(each.start_s),
                task=task,
                label=label,
            )
            writer.event(topic, event)


def _stamp(time_s: float) -> int:
    return ZERO_NS + round(time_s * NANOSECONDS)
