"""A labelled stretch of a video or of a bag's camera: what every dataset reader gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ANNOTATIONS = 'annotations.csv'

Unit = Literal['frames', 'seconds']


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a video, or of what a bag's camera saw.

    Attributes:
        start: Its beginning, counted from the first frame (in a bag: of this camera).
        end: Its end, not included.
        unit: What both count: frames as they are shown, or seconds.

    Raises:
        ValueError: It begins before the video or does not end after its beginning.
    """

    start: float
    end: float
    unit: Unit

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(
                f'span from {self.start:g} to {self.end:g} {self.unit}: expected 0 <= start < end'
            )


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """A labelled clip, not yet decoded.

    Attributes:
        clip_id: Its name, unique within the dataset and the same on every machine.
        video: The file; the bag, where there is a topic.
        topic: Image topic of a bag; empty for a video file.
        span: Which part of it; None for all.
        split: `train`, `val` or `test`.
        labels: Label of each task.
        view: The camera; empty where there is one.
        subject: Who acts; empty where it is not known.
    """

    clip_id: str
    video: Path
    topic: str = ''
    span: Span | None = None
    split: str
    labels: Mapping[str, str]
    view: str = ''
    subject: str = ''
