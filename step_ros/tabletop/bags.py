"""Annotated bags of the synthetic tabletop, for tutorials and tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from step_ros.io.bags.reader import END, START, BagEvent
from step_ros.io.bags.writer import BagWriter, Storage
from step_ros.streaming.grid import NANOSECONDS
from step_ros.tabletop.simulator import CAMERA_NAMES, ActionSegment, Tabletop

# When every recording begins: a stamp of zero would mean that none was set.
ZERO_NS = 1_700_000_000 * NANOSECONDS
_CAMERA = 'camera'


@dataclass(frozen=True, kw_only=True)
class DemoCamera:
    """How the tabletop is filmed.

    Attributes:
        views: From where; each is a camera.
        width: Image width in pixels.
        height: Image height in pixels.
        rate: Images per second.
        compressed: Whether images are JPEG.

    Raises:
        ValueError: There is no such view, or a number is not above 0.
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
            raise ValueError(f'{self}: expected a view, and sizes and a rate above 0')

    def name(self, view: str) -> str:
        """Return the name of a view's camera; a single one is called as the camera node is."""
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
    camera: DemoCamera | None = None,
) -> float:
    """Film a scene into a bag, annotated with what happens as `ActionEvent`.

    The last action is filmed to its end, so that every annotation is whole. The same arguments
    give the same messages.

    Args:
        path: The folder to write; it must not exist.
        seed: Number of the scene within its split.
        split: `train`, `val` or `test`.
        seconds: How long it lasts at least.
        storage: `mcap` or `sqlite3`.
        camera: How it is filmed; None for the defaults.

    Returns:
        How long it lasts, in seconds.

    Raises:
        FileExistsError: Something of that name exists.
        ValueError: A value is another one than expected.
    """
    if not seconds > 0:
        raise ValueError(f'seconds={seconds}: expected more than 0')
    camera = camera or DemoCamera()
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
    """Return the folder's name and the seed of each of several scenes."""
    return [(f'scene_{number:03d}', number) for number in range(seed, seed + count)]


def _annotate(
    writer: BagWriter, topic: str, before: ActionSegment | None, segment: ActionSegment | None
) -> None:
    """Write the END of what was going on and the START of what is, at their exact times."""
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
