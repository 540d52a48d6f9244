# SPDX-License-Identifier: Apache-2.0
"""The tabletop as a dataset on disk: videos of single actions and `annotations.csv`.

`read_dataset('tabletop', root)` reads it like any other dataset.
"""

import csv
import functools
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from step_ros.datasets.clip import ANNOTATIONS
from step_ros.files import replace_file
from step_ros.io.errors import DatasetError
from step_ros.io.video import VideoWriter
from step_ros.tabletop.clips import render_clip
from step_ros.tabletop.geometry import CAMERA_NAMES
from step_ros.tabletop.vocabulary import ACTIONS, TASKS, labels_of

SETTINGS = 'rendering.json'

# Scenes below this number served to pre-train the shipped encoders.
FIRST_SEED = 1_000_000

# At this H.264 quality, the eye sees no difference to the rendered frames.
QUALITY = 12

Progress = Callable[[Iterable[Path], int], Iterable[Path]]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Settings of a rendered dataset.

    Attributes:
        clips: Clips of each action, by split.
        views: Names of the cameras; the clips cycle through them.
        size: Width and height in pixels.
        rate: Frames per second.
        seed: Added to the number of each scene.
    """

    clips: Mapping[str, int] = field(default_factory=lambda: {'train': 100, 'val': 10, 'test': 30})
    views: tuple[str, ...] = CAMERA_NAMES
    size: tuple[int, int] = (160, 120)
    rate: float = 10.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One video."""

    video: str
    split: str
    view: str
    action: str
    seed: int


def render_dataset(
    root: Path, rendering: Rendering, *, workers: int = 2, progress: Progress | None = None
) -> None:
    """Render the missing videos, then write the annotations.

    Args:
        root: Folder of the dataset.
        rendering: The settings; each clip gets its own scene.
        workers: Number of processes.
        progress: Shows a progress bar: takes the finished videos and their number, and returns
            the videos.

    Raises:
        DatasetError: The folder holds other files or another rendering. It stays as it is.
    """
    root.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(asdict(rendering)))
    path = root / SETTINGS
    if path.is_file():
        previous = json.loads(path.read_text(encoding='utf-8'))
        if previous != settings:
            raise DatasetError(
                f'{path}: the folder was rendered as {previous}; expected {settings}: choose '
                'another folder, or delete this one'
            )
    elif any(root.iterdir()):
        raise DatasetError(f'{root}: expected an empty folder, or one with {SETTINGS}')
    path.write_text(json.dumps(settings) + '\n', encoding='utf-8')
    items = list(_items(rendering))
    missing = [item for item in items if not (root / item.video).is_file()]
    for split in rendering.clips:
        (root / split).mkdir(exist_ok=True)
    work = functools.partial(_render, root, rendering.size, rendering.rate)
    # Started afresh, not forked: a forked process inherits the locks of FFmpeg's threads without
    # the threads, and waits for ever once it frees a frame of its parent.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(max(1, workers), mp_context=context) as pool:
        done: Iterable[Path] = pool.map(work, missing, chunksize=4)
        for _ in done if progress is None else progress(done, len(missing)):
            pass
    _annotate(root, items)


def _items(rendering: Rendering) -> Iterator[_Item]:
    actions = list(ACTIONS)
    for split, per_action in rendering.clips.items():
        for index in range(per_action * len(actions)):
            action = actions[index % len(actions)]
            view = rendering.views[(index // len(actions)) % len(rendering.views)]
            yield _Item(
                video=f'{split}/{index:06d}-{view}-{action.replace(" ", "-")}.mp4',
                split=split,
                view=view,
                action=action,
                seed=FIRST_SEED + rendering.seed + index,
            )


def _render(root: Path, size: tuple[int, int], rate: float, item: _Item) -> Path:
    clip = render_clip(
        item.action, seed=item.seed, split=item.split, camera=item.view, size=size, rate=rate
    )
    path = root / item.video
    # A later run skips a video that exists, so an interrupted one must not leave half a file.
    with (
        replace_file(path) as partial,
        VideoWriter(partial, size=size, rate=rate, quality=QUALITY) as writer,
    ):
        for image_hw3, stamp_ns in zip(clip.frames_thwc, clip.stamps_ns, strict=True):
            writer.write(image_hw3, int(stamp_ns))
    return path


def _annotate(root: Path, items: list[_Item]) -> None:
    with (
        replace_file(root / ANNOTATIONS) as partial,
        partial.open('w', encoding='utf-8', newline='') as file,
    ):
        writer = csv.writer(file)
        writer.writerow(['video', 'start', 'end', 'split', 'view', *TASKS])
        for item in items:
            labels = labels_of(item.action)
            writer.writerow([item.video, '', '', item.split, item.view, *labels.values()])
