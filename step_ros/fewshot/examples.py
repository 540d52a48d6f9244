"""Recorded examples of a task: which there are, and what the bundle's heads see in them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.frames import index_clip, read_frames, span_frames
from step_ros.datasets.registry import read_dataset
from step_ros.datasets.sampling import PHASES, spread_windows
from step_ros.encoders.base import Encoder
from step_ros.fewshot.features import WindowFeatures, headless, join_features, pool_windows
from step_ros.io.video import VideoError
from step_ros.model.bundle import Bundle
from step_ros.model.heads.base import Head
from step_ros.reporting.progress import track
from step_ros.streaming.grid import NANOSECONDS, grid_indices

# Windows of an example: they start at different moments of it.
WINDOWS = 6
# Images in memory at once.
FRAMES_AT_ONCE = 32
# How many problems an error names.
_NAMED = 5


class TeachError(RuntimeError):
    """A task cannot be taught from these examples."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Examples of one task.

    Attributes:
        task: Its name.
        labels: All labels that occur.
        counterparts: Nearly symmetric partners, as far as the dataset names them.
        records: The examples, sorted by name.
    """

    task: str
    labels: tuple[str, ...]
    counterparts: Mapping[str, str]
    records: tuple[ClipRecord, ...]

    def of(self, split: str) -> list[int]:
        """Return the numbers of the examples of a split."""
        return [number for number, record in enumerate(self.records) if record.split == split]

    def counts(self, split: str) -> dict[str, int]:
        """Count the examples of each label in a split."""
        found = Counter(self.records[number].labels[self.task] for number in self.of(split))
        return {label: found[label] for label in self.labels}


def read_examples(
    root: Path, *, task: str = '', dataset: str = 'csv', options: Mapping[str, str] | None = None
) -> Examples:
    """Read which examples there are; no video is opened.

    Args:
        root: Their folder.
        task: Which task; may be empty where there is one only.
        dataset: How they are annotated, as in `step_ros data list`.
        options: Options of that reader.

    Raises:
        DatasetError: There are no annotations, or fewer than two labels.
        TeachError: There are no examples, an annotation is wrong, or the task is unclear.
    """
    read = read_dataset(dataset, root, **(options or {}))
    if read.problems:
        named = '\n  '.join(str(problem) for problem in read.problems[:_NAMED])
        more = len(read.problems) - _NAMED
        raise TeachError(
            f'{root}: {len(read.problems)} annotations are wrong; mend or remove them:\n  {named}'
            + (f'\n  and {more} more (`step_ros data check` lists them)' if more > 0 else '')
        )
    names = [entry.name for entry in read.config.tasks]
    if not task and len(names) > 1:
        raise TeachError(f'{root}: there are several tasks; choose one of {", ".join(names)}')
    task = task or names[0]
    if task not in names:
        raise TeachError(f'{root}: no task {task!r}; the examples have {", ".join(names)}')
    config = read.config.task(task)
    records = tuple(record for record in read.records if task in record.labels)
    if not records:
        raise TeachError(f'{root}: there are no examples of task {task!r}; record some first')
    occurring = {record.labels[task] for record in records}
    return Examples(
        task=task,
        labels=tuple(label for label in config.labels if label in occurring),
        counterparts={
            label: partner
            for label, partner in config.counterparts.items()
            if {label, partner} <= occurring
        },
        records=records,
    )


def encode_examples(
    examples: Examples,
    bundle: Bundle,
    encoder: Encoder,
    heads: Mapping[str, Head],
    *,
    folder: Path,
    backward: bool = False,
) -> WindowFeatures:
    """Encode each example once and keep what heads see in its windows.

    What is done is done: killed and started again, it goes on with the next example.

    Args:
        examples: The examples.
        bundle: Says what a window is.
        encoder: Its encoder.
        heads: Those whose features are wanted.
        folder: Where features are kept meanwhile.
        backward: Whether the features of reversed windows are wanted, too.

    Raises:
        TeachError: An example cannot be used; names all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bodies = headless(heads)
    parts, failures = list[WindowFeatures](), list[str]()
    for number, record in enumerate(track(examples.records, 'encode examples')):
        path = folder / f'{_key(record, bundle, backward, heads)}.safetensors'
        tensors = _kept(path)
        if tensors is None:
            try:
                x_wtnd = example_windows(record, bundle, encoder)
            except (VideoError, ValueError) as error:
                failures.append(f'{record.clip_id}: {error}')
                continue
            tensors = {f'forward.{t}': x for t, x in pool_windows(bodies, x_wtnd).items()}
            if backward:
                reverse = pool_windows(bodies, x_wtnd, reverse=True)
                tensors |= {f'backward.{t}': x for t, x in reverse.items()}
            partial = path.with_suffix('.partial')
            save_file({name: x.contiguous() for name, x in tensors.items()}, partial)
            partial.replace(path)
        parts.append(_features(tensors, number))
    if failures:
        raise TeachError(
            f'{len(failures)} of {len(examples.records)} examples cannot be used; mend or remove '
            'them (the others are encoded already):\n  ' + '\n  '.join(failures[:_NAMED])
        )
    return join_features(parts)


def example_windows(record: ClipRecord, bundle: Bundle, encoder: Encoder) -> Tensor:
    """Return the tokens of several windows of an example, float16, `[w, t, n, d]`.

    Frames are encoded at twice the grid's rate, so that windows start at moments between its
    points as well. An example that is too short for a window is padded by its last frame.

    Raises:
        VideoError: It cannot be decoded.
    """
    period_ns = round(bundle.spec.frame_period * NANOSECONDS)
    index = index_clip(record)
    numbers = span_frames(index, record.span)
    stamps_ns = index.stamps_ns[numbers]
    kept = grid_indices(stamps_ns, frame_period_ns=period_ns // PHASES)
    tokens = [
        encoder.encode(list(read_frames(index, numbers[kept[at : at + FRAMES_AT_ONCE]])))
        for at in range(0, len(kept), FRAMES_AT_ONCE)
    ]
    return cut_windows(torch.cat(tokens).half().cpu(), stamps_ns[kept], bundle)


def cut_windows(x_fnd: Tensor, stamps_ns: np.ndarray, bundle: Bundle) -> Tensor:
    """Cut up to `WINDOWS` different windows out of an example's tokens, `[w, t, n, d]`."""
    chosen = spread_windows(
        stamps_ns,
        frames=bundle.spec.frames,
        frame_period_ns=round(bundle.spec.frame_period * NANOSECONDS),
        clips=WINDOWS,
    )
    different = sorted({tuple(window) for window in chosen})
    return x_fnd[torch.tensor(different)]


def _key(record: ClipRecord, bundle: Bundle, backward: bool, heads: Mapping[str, Head]) -> str:
    """Name everything that decides an example's features."""
    stat = record.video.stat()
    content = (
        bundle.model_id,
        sorted(heads),
        WINDOWS,
        backward,
        str(record.video.resolve()),
        record.topic,
        stat.st_size,
        stat.st_mtime_ns,
        record.span,
    )
    return hashlib.sha256(repr(content).encode()).hexdigest()[:24]


def _kept(path: Path) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except SafetensorError:
        return None


def _features(tensors: Mapping[str, Tensor], number: int) -> WindowFeatures:
    parts: dict[str, dict[str, Tensor]] = {'forward': {}, 'backward': {}}
    for name, x_wd in tensors.items():
        direction, task = name.split('.')
        parts[direction][task] = x_wd
    windows = len(next(iter(parts['forward'].values())))
    return WindowFeatures(
        forward=parts['forward'],
        backward=parts['backward'],
        example_w=np.full(windows, number),
    )


def targets_of(
    examples: Examples, numbers: Sequence[int], labels: Sequence[str]
) -> dict[int, int]:
    """Return the number of the label of each of some examples."""
    places = {label: place for place, label in enumerate(labels)}
    return {n: places[examples.records[n].labels[examples.task]] for n in numbers}
