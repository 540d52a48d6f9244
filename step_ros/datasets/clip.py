# SPDX-License-Identifier: Apache-2.0
"""A labelled clip of a video or of a bag's camera; every dataset reader returns clips."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ANNOTATIONS = 'annotations.csv'

Unit = Literal['frames', 'seconds']


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a video, or of the frames of a bag's camera.

    Attributes:
        start: Start, counted from the first frame; in a bag from the camera's first frame.
        end: End, not included.
        unit: Unit of both: frames in presentation order, or seconds.

    Raises:
        ValueError: The start is negative, or the end is not after it.
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
        clip_id: Name of the clip, unique within the dataset and the same on every machine.
        video: The video file, or the bag.
        topic: Image topic of a bag; empty for a video file.
        span: Part of the video; None for all of it.
        split: `train`, `val` or `test`.
        labels: Label of each task.
        view: Name of the camera; may be empty if the dataset has only one.
        subject: The person who acts; empty if unknown.
    """

    clip_id: str
    video: Path
    topic: str = ''
    span: Span | None = None
    split: str
    labels: Mapping[str, str]
    view: str = ''
    subject: str = ''
