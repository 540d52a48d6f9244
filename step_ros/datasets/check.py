"""What is there of a dataset, what is missing and what is wrong; nothing is changed."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.frames import index_clip, read_frames
from step_ros.datasets.reader import Problem, ProblemKind
from step_ros.datasets.registry import Dataset
from step_ros.io.video import VideoError, VideoReader
from step_ros.streaming.grid import NANOSECONDS

Progress = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a dataset holds.

    Attributes:
        dataset: What was checked.
        counts: Clips by task, label and (split, view); labels in the published order.
        problems: Those of reading, then those of decoding.
        decoded: How many videos, and cameras of bags, were opened.
    """

    dataset: Dataset
    counts: Mapping[str, Mapping[str, Counter[tuple[str, str]]]]
    problems: tuple[Problem, ...]
    decoded: int

    @property
    def missing_videos(self) -> tuple[str, ...]:
        """Videos that an annotation names and that are not there."""
        return self._values('missing video')

    @property
    def undecodable_videos(self) -> tuple[str, ...]:
        """Videos that were opened without success."""
        return self._values('undecodable video')

    @property
    def without_clips(self) -> dict[str, tuple[str, ...]]:
        """Labels that no clip has, by task; tasks that lack none are left out."""
        lacking = {
            task: tuple(label for label, parts in labels.items() if not parts)
            for task, labels in self.counts.items()
        }
        return {task: labels for task, labels in lacking.items() if labels}

    @property
    def clean(self) -> bool:
        """Whether nothing is missing or wrong."""
        return not self.problems and not self.without_clips

    def by_kind(self) -> dict[ProblemKind, list[Problem]]:
        """Sort the problems by their kind."""
        kinds: dict[ProblemKind, list[Problem]] = {}
        for problem in self.problems:
            kinds.setdefault(problem.kind, []).append(problem)
        return dict(sorted(kinds.items()))

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for a JSON file."""
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
            'classes_without_clips': {task: [*some] for task, some in self.without_clips.items()},
            'missing_videos': [*self.missing_videos],
            'undecodable_videos': [*self.undecodable_videos],
            'problems_by_kind': {kind: len(some) for kind, some in self.by_kind().items()},
            'problems': [
                {**asdict(problem), 'file': str(problem.file)} for problem in self.problems
            ],
            'left_out': dict(self.dataset.left_out),
        }

    def _values(self, kind: ProblemKind) -> tuple[str, ...]:
        return tuple(sorted({problem.value for problem in self.problems if problem.kind == kind}))


def check_dataset(
    dataset: Dataset, *, decode: bool = False, progress: Progress = lambda videos: videos
) -> Check:
    """Count a dataset's clips and gather its problems.

    Args:
        dataset: What to check.
        decode: Open every video and every camera of a bag, decode its first frame and compare its
            length with the clips.
        progress: Passes the videos on, and may show how far they are.
    """
    problems = list(dataset.problems)
    videos = clips_by_video(dataset.records) if decode else {}
    keys = sorted(videos)
    for key, _ in zip(keys, progress([video for video, _ in keys]), strict=True):
        problems += _open(videos[key])
    return Check(
        dataset=dataset,
        counts=count_clips(dataset),
        problems=tuple(problems),
        decoded=len(videos),
    )


def count_clips(dataset: Dataset) -> dict[str, dict[str, Counter[tuple[str, str]]]]:
    """Count the clips by task, label and (split, view)."""
    counts: dict[str, dict[str, Counter[tuple[str, str]]]] = {
        task.name: {label: Counter() for label in task.labels} for task in dataset.config.tasks
    }
    for record in dataset.records:
        for task, label in record.labels.items():
            counts[task][label][record.split, record.view] += 1
    return counts


def clips_by_video(records: Sequence[ClipRecord]) -> dict[tuple[Path, str], list[ClipRecord]]:
    """Sort clips by the video, or the bag and its image topic, that holds them."""
    videos: dict[tuple[Path, str], list[ClipRecord]] = {}
    for record in records:
        videos.setdefault((record.video, record.topic), []).append(record)
    return videos


def _open(clips: Sequence[ClipRecord]) -> list[Problem]:
    video = clips[0].video
    try:
        duration_s, rate = _length(clips[0])
    except VideoError as error:
        return [
            Problem(
                kind='undecodable video',
                file=video,
                row=0,
                field='video',
                value=str(video),
                expected=f'a video that decodes; {str(error).removeprefix(f"{error.path}: ")}',
            )
        ]
    if not duration_s or not rate:
        return []
    problems = []
    for clip in clips:
        if clip.span is None:
            continue
        end_s = clip.span.end / rate if clip.span.unit == 'frames' else clip.span.end
        # One frame more: headers round.
        if end_s > duration_s + 1 / rate:
            problems.append(
                Problem(
                    kind='bad span',
                    file=video,
                    row=0,
                    field='end',
                    value=f'{clip.span.end:g} {clip.span.unit}',
                    expected=f'at most {duration_s:.3f} s ({duration_s * rate:.0f} frames), '
                    f'in clip {clip.clip_id}',
                )
            )
    return problems


def _length(clip: ClipRecord) -> tuple[float, float]:
    """Return seconds and frames per second of what holds a clip; its first frame is decoded."""
    if not clip.topic:
        with VideoReader(clip.video) as reader:
            return reader.duration_s, reader.rate
    index = index_clip(clip)
    read_frames(index, [0])
    last_s = float(index.stamps_ns[-1]) / NANOSECONDS
    if not last_s:
        return 0.0, 0.0
    rate = (len(index) - 1) / last_s
    return last_s + 1 / rate, rate
