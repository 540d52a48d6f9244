"""The tabletop as a dataset on disk: videos of single actions and `annotations.csv`.

`read_dataset('tabletop', root)` reads it like any other; nothing later knows that it was rendered.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from step_ros.datasets.clip import ANNOTATIONS
from step_ros.io.errors import DatasetError
from step_ros.io.video import VideoWriter
from step_ros.tabletop.clips import render_clip
from step_ros.tabletop.geometry import CAMERA_NAMES
from step_ros.tabletop.vocabulary import ACTIONS, TASKS, labels_of

SETTINGS = 'rendering.json'

# Scenes below this are those that shipped encoders were pre-trained on.
FIRST_SEED = 1_000_000

# H.264 at this quality cannot be told from the rendered frames by eye.
QUALITY = 12

Progress = Callable[[Iterable[Path], int], Iterable[Path]]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """What to render.

    Attributes:
        clips: Clips of each action, by split.
        views: Names of cameras; clips take turns.
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
    """Render the videos that are not there yet, then the annotations.

    Args:
        root: Folder of the dataset.
        rendering: What to render; each clip in a scene of its own.
        workers: Processes.
        progress: Wraps the finished videos and their number, for a progress bar.

    Raises:
        DatasetError: The folder holds something else; it is left as it is.
    """
    root.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(asdict(rendering)))
    path = root / SETTINGS
    if path.is_file():
        there = json.loads(path.read_text(encoding='utf-8'))
        if there != settings:
            raise DatasetError(
                f'{path}: the folder was rendered as {there}; expected {settings}: choose another '
                'folder, or delete this one'
            )
    elif any(root.iterdir()):
        raise DatasetError(f'{root}: expected an empty folder, or one with {SETTINGS}')
    path.write_text(json.dumps(settings) + '\n', encoding='utf-8')
    items = list(_items(rendering))
    missing = [item for item in items if not (root / item.video).is_file()]
    for split in rendering.clips:
        (root / split).mkdir(exist_ok=True)
    work = partial(_render, root, rendering.size, rendering.rate)
    with ProcessPoolExecutor(max(1, workers)) as pool:
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
    # Whole or not at all: what has its name is never rendered again.
    unfinished = path.with_name(f'unfinished-{path.name}')
    with VideoWriter(unfinished, size=size, rate=rate, quality=QUALITY) as writer:
        for image_hw3, stamp_ns in zip(clip.frames_thwc, clip.stamps_ns, strict=True):
            writer.write(image_hw3, int(stamp_ns))
    return unfinished.replace(path)


def _annotate(root: Path, items: list[_Item]) -> None:
    unfinished = root / f'unfinished-{ANNOTATIONS}'
    with unfinished.open('w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['video', 'start', 'end', 'split', 'view', *TASKS])
        for item in items:
            labels = labels_of(item.action)
            writer.writerow([item.video, '', '', item.split, item.view, *labels.values()])
    unfinished.replace(root / ANNOTATIONS)
