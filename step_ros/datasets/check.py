# SPDX-License-Identifier: Apache-2.0
"""Check a dataset: count its clips and list missing videos and other problems.

A check only reads; it changes nothing on disk.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.frames import (
    FrameIndex,
    check_frames,
    index_clip,
    span_frames,
    video_end_ns,
)
from step_ros.datasets.reader import Problem, ProblemKind
from step_ros.datasets.registry import Dataset
from step_ros.io.video import VideoError
from step_ros.streaming.grid import NANOSECONDS

Progress = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of a check.

    Attributes:
        dataset: The checked dataset.
        counts: Number of clips by task, label and (split, view); labels in the published order.
        problems: Problems of reading, then problems of decoding.
        decoded: Number of opened videos and cameras of bags.
        left_out: Number of entries and images left out on purpose or sorted, by reason.
    """

    dataset: Dataset
    counts: Mapping[str, Mapping[str, Counter[tuple[str, str]]]]
    problems: tuple[Problem, ...]
    decoded: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def missing_videos(self) -> tuple[str, ...]:
        """Missing videos that an annotation names."""
        return self._values('missing video')

    @property
    def undecodable_videos(self) -> tuple[str, ...]:
        """Videos that cannot be decoded."""
        return self._values('undecodable video')

    @property
    def without_clips(self) -> dict[str, tuple[str, ...]]:
        """Labels without clips, by task; only tasks that have such labels."""
        unused = {
            task: tuple(label for label, parts in labels.items() if not parts)
            for task, labels in self.counts.items()
        }
        return {task: labels for task, labels in unused.items() if labels}

    @property
    def clean(self) -> bool:
        """Whether the dataset has no problems and a clip for each label."""
        return not self.problems and not self.without_clips

    def by_kind(self) -> dict[ProblemKind, list[Problem]]:
        """Return the problems grouped by kind, kinds sorted."""
        kinds: dict[ProblemKind, list[Problem]] = {}
        for problem in self.problems:
            kinds.setdefault(problem.kind, []).append(problem)
        return dict(sorted(kinds.items()))

    def as_dict(self) -> dict[str, Any]:
        """Return the result as the content of a JSON file."""
        return {
            'dataset': self.dataset.config.name,
            'options': dict(self.dataset.options),
            'clean': self.clean,
            'clips': len(self.dataset.records),
            'clips_published': self.dataset.config.clips,
            'videos_decoded': self.decoded,
            'counts': [
                {'task': task, 'label': label, 'split': split, 'view': view, 'clips': clips}
                for task, labels in self.counts.items()
                for label, parts in labels.items()
                for (split, view), clips in sorted(parts.items())
            ],
            'classes_without_clips': {
                task: [*labels] for task, labels in self.without_clips.items()
            },
            'missing_videos': [*self.missing_videos],
            'undecodable_videos': [*self.undecodable_videos],
            'problems_by_kind': {kind: len(problems) for kind, problems in self.by_kind().items()},
            'problems': [
                {**asdict(problem), 'file': str(problem.file)} for problem in self.problems
            ],
            'left_out': dict(self.left_out),
        }

    def _values(self, kind: ProblemKind) -> tuple[str, ...]:
        return tuple(sorted({problem.value for problem in self.problems if problem.kind == kind}))


def check_dataset(
    dataset: Dataset, *, decode: bool = False, progress: Progress = lambda videos: videos
) -> Check:
    """Count a dataset's clips and collect its problems.

    Args:
        dataset: The dataset.
        decode: Whether to open every video and every camera of a bag, and decode all frames of
            the clips. Training refuses a clip for the same reasons.
        progress: Yields the videos that it is given, and may show progress.
    """
    problems = list(dataset.problems)
    videos = clips_by_video(dataset.records) if decode else {}
    left_out = Counter(dataset.left_out)
    keys = sorted(videos)
    for key, _ in zip(keys, progress([video for video, _ in keys]), strict=True):
        problems += _decode(videos[key])
        left_out += _stamp_outcomes(videos[key][0])
    return Check(
        dataset=dataset,
        counts=count_clips(dataset),
        problems=tuple(problems),
        decoded=len(videos),
        left_out=left_out,
    )


def count_clips(dataset: Dataset) -> dict[str, dict[str, Counter[tuple[str, str]]]]:
    """Return the number of clips by task, label and (split, view)."""
    counts: dict[str, dict[str, Counter[tuple[str, str]]]] = {
        task.name: {label: Counter() for label in task.labels} for task in dataset.config.tasks
    }
    for record in dataset.records:
        for task, label in record.labels.items():
            counts[task][label][record.split, record.view] += 1
    return counts


def clips_by_video(records: Sequence[ClipRecord]) -> dict[tuple[Path, str], list[ClipRecord]]:
    """Return the clips grouped by video file, or by bag and image topic."""
    videos: dict[tuple[Path, str], list[ClipRecord]] = {}
    for record in records:
        videos.setdefault((record.video, record.topic), []).append(record)
    return videos


def _decode(clips: Sequence[ClipRecord]) -> list[Problem]:
    """Return the problems of one video or camera: all that training would refuse a clip for."""
    try:
        index = index_clip(clips[0])
    except VideoError as error:
        return [_undecodable(clips[0], f'a video that decodes; {error.why}')]
    problems = []
    numbers: dict[str, np.ndarray] = {}
    for clip in clips:
        try:
            numbers[clip.clip_id] = span_frames(index, clip.span)
        except VideoError as error:
            problems.append(_bad_span(clip, index, error.why))
    if not numbers or _decodes(index, np.unique(np.concatenate([*numbers.values()]))):
        return problems
    # Something is damaged, or the size changes: look for the clips that it touches.
    for clip in clips:
        if clip.clip_id in numbers:
            try:
                check_frames(index, numbers[clip.clip_id])
            except VideoError as error:
                expected = f'a video that decodes in clip {clip.clip_id}; {error.why}'
                problems.append(_undecodable(clip, expected))
    return problems


def _stamp_outcomes(clip: ClipRecord) -> Counter[str]:
    """Return how many images of a bag's camera the reader left out or sorted, by reason."""
    if not clip.topic:
        return Counter()
    # Imported late: it needs rosbags, which is optional.
    from step_ros.io.bags.reader import BagIndex
    from step_ros.io.bags.stamps import OUTCOMES

    try:
        index = index_clip(clip)
    except VideoError:
        return Counter()
    counts = index.counts if isinstance(index, BagIndex) else {}
    return Counter({f'images {OUTCOMES[key]}': count for key, count in counts.items()})


def _decodes(index: FrameIndex, numbers: np.ndarray) -> bool:
    try:
        check_frames(index, numbers)
    except VideoError:
        return False
    return True


def _undecodable(clip: ClipRecord, expected: str) -> Problem:
    return Problem(
        kind='undecodable video',
        file=clip.video,
        row=0,
        field='video',
        value=str(clip.video),
        expected=expected,
    )


def _bad_span(clip: ClipRecord, index: FrameIndex, why: str) -> Problem:
    span, length_s = clip.span, video_end_ns(index) / NANOSECONDS
    expected = f'a part of the video that is there, in clip {clip.clip_id}; {why}'
    if span is not None and span.end > (len(index) if span.unit == 'frames' else length_s):
        because = f'; {index.ends_early}' if index.ends_early else ''
        expected = (
            f'at most {length_s:.3f} s ({len(index)} frames), in clip {clip.clip_id}{because}'
        )
    return Problem(
        kind='bad span',
        file=clip.video,
        row=0,
        field='end',
        value='none' if span is None else f'{span.end:g} {span.unit}',
        expected=expected,
    )
