# SPDX-License-Identifier: Apache-2.0
"""Recorded examples of a task, and their features as the bundle's heads compute them."""

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
from step_ros.datasets.identity import source_digest
from step_ros.datasets.registry import read_dataset
from step_ros.datasets.sampling import PHASES, spread_windows
from step_ros.encoders.base import Encoder
from step_ros.fewshot.features import WindowFeatures, head_bodies, join_features, pool_windows
from step_ros.files import replace_file
from step_ros.io.video import VideoError
from step_ros.model.bundle import Bundle
from step_ros.model.heads.base import Head
from step_ros.reporting.progress import track
from step_ros.streaming.grid import NANOSECONDS, grid_indices

# Windows of each example; they start at different moments.
WINDOWS = 6
# Images in memory at once.
FRAMES_AT_ONCE = 32
# The number of problems that an error lists.
_LISTED = 5


class FewShotError(RuntimeError):
    """A task cannot be learned from these examples."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Examples of one task.

    Attributes:
        task: Name of the task.
        labels: All labels that occur in the examples.
        counterparts: Nearly symmetric partners, if the dataset names them.
        records: The examples, sorted by name.
    """

    task: str
    labels: tuple[str, ...]
    counterparts: Mapping[str, str]
    records: tuple[ClipRecord, ...]

    def of(self, split: str) -> list[int]:
        """Return the indices of the examples of a split."""
        return [index for index, record in enumerate(self.records) if record.split == split]

    def counts(self, split: str) -> dict[str, int]:
        """Count the examples of each label in a split."""
        found = Counter(self.records[index].labels[self.task] for index in self.of(split))
        return {label: found[label] for label in self.labels}


def read_examples(
    root: Path, *, task: str = '', dataset: str = 'csv', options: Mapping[str, str] | None = None
) -> Examples:
    """Read the annotations of the examples; no video is opened.

    Args:
        root: Folder of the examples.
        task: Name of the task; may be empty if the annotations have a single task.
        dataset: Format of the annotations, as in `step_ros data list`.
        options: Options of the dataset's reader.

    Raises:
        DatasetError: There are no annotations, or fewer than two labels.
        FewShotError: There are no examples, an annotation is wrong, or the task is unclear.
    """
    read = read_dataset(dataset, root, **(options or {}))
    if read.problems:
        named = '\n  '.join(str(problem) for problem in read.problems[:_LISTED])
        more = len(read.problems) - _LISTED
        raise FewShotError(
            f'{root}: {len(read.problems)} annotations are wrong; mend or remove them:\n  {named}'
            + (f'\n  and {more} more (`step_ros data check` lists them)' if more > 0 else '')
        )
    names = [entry.name for entry in read.config.tasks]
    if not task and len(names) > 1:
        raise FewShotError(
            f'{root}: the examples have several tasks; choose one of {", ".join(names)}'
        )
    task = task or names[0]
    if task not in names:
        raise FewShotError(f'{root}: no task {task!r}; the examples have {", ".join(names)}')
    config = read.config.task(task)
    records = tuple(record for record in read.records if task in record.labels)
    if not records:
        raise FewShotError(f'{root}: there are no examples of task {task!r}; record some first')
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
    """Encode each example once and return the heads' features of its windows.

    The features of each finished example are stored in `folder`, under a digest of the content of
    its video or bag. A run that was stopped resumes with the next example.

    Args:
        examples: The examples.
        bundle: The bundle, which defines the length and the frame period of a window.
        encoder: The bundle's encoder.
        heads: The heads whose features to compute.
        folder: Folder for the features of finished examples.
        backward: Whether to compute the features of reversed windows, too.

    Raises:
        FewShotError: Some examples cannot be used; the message lists the first of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bodies = head_bodies(heads)
    parts, failures = list[WindowFeatures](), list[str]()
    for index, record in enumerate(track(examples.records, 'encode examples')):
        path = folder / f'{_key(record, bundle, encoder, backward, heads)}.safetensors'
        tensors = _stored(path)
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
            with replace_file(path) as partial:
                save_file({name: x.contiguous() for name, x in tensors.items()}, partial)
        parts.append(_features(tensors, index))
    if failures:
        raise FewShotError(
            f'{len(failures)} of {len(examples.records)} examples cannot be used; mend or remove '
            'them (the others are already encoded):\n  ' + '\n  '.join(failures[:_LISTED])
        )
    return join_features(parts)


def example_windows(record: ClipRecord, bundle: Bundle, encoder: Encoder) -> Tensor:
    """Return the tokens of several windows of an example, float16, `[w, t, n, d]`.

    Frames are encoded at twice the grid's rate, so that windows can also start between two grid
    points. An example that is shorter than a window is padded with its last frame.

    Raises:
        VideoError: The example cannot be decoded.
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
    """Return up to `WINDOWS` different windows of an example's tokens, `[w, t, n, d]`.

    Args:
        x_fnd: Tokens of the example's frames (f), oldest first.
        stamps_ns: Stamps of these frames.
        bundle: The bundle, which defines the length and the frame period of a window.
    """
    chosen = spread_windows(
        stamps_ns,
        frames=bundle.spec.frames,
        frame_period_ns=round(bundle.spec.frame_period * NANOSECONDS),
        clips=WINDOWS,
    )
    different = sorted({tuple(window) for window in chosen})
    return x_fnd[torch.tensor(different)]


def _key(
    record: ClipRecord,
    bundle: Bundle,
    encoder: Encoder,
    backward: bool,
    heads: Mapping[str, Head],
) -> str:
    """Return a digest of everything that an example's features depend on."""
    content = (
        bundle.model_id,
        (encoder.runtime, encoder.precision, encoder.variant),
        sorted(heads),
        WINDOWS,
        backward,
        source_digest(record.video),
        record.topic,
        record.span,
    )
    return hashlib.sha256(repr(content).encode()).hexdigest()[:24]


def _stored(path: Path) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        return load_file(path)
    except SafetensorError:
        return None


def _features(tensors: Mapping[str, Tensor], example: int) -> WindowFeatures:
    parts: dict[str, dict[str, Tensor]] = {'forward': {}, 'backward': {}}
    for name, x_wd in tensors.items():
        direction, task = name.split('.')
        parts[direction][task] = x_wd
    windows = len(next(iter(parts['forward'].values())))
    return WindowFeatures(
        forward=parts['forward'],
        backward=parts['backward'],
        example_w=np.full(windows, example),
    )


def targets_of(
    examples: Examples, indices: Sequence[int], labels: Sequence[str]
) -> dict[int, int]:
    """Return the index of each example's label, by the index of the example."""
    places = {label: place for place, label in enumerate(labels)}
    return {index: places[examples.records[index].labels[examples.task]] for index in indices}
