# SPDX-License-Identifier: Apache-2.0
"""Segmental metrics of a sequence of labels: F1 at an overlap, and edit score.

Farha and Gall define them (MS-TCN, CVPR 2019, Sec. 4.1) after Lea et al. (CVPR 2017). Both
tolerate slightly shifted boundaries and penalise a segment that is split into pieces.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

# Overlaps at which F1 is reported, in percent.
OVERLAPS = (10, 25, 50)


@dataclass(frozen=True)
class LabelRun:
    """A segment: consecutive equal labels.

    Attributes:
        label: The label.
        start: Index of the first one.
        end: Index after the last one.
    """

    label: int
    start: int
    end: int


@dataclass(frozen=True)
class SegmentCounts:
    """Counts of matched and unmatched segments.

    Attributes:
        right: Predicted segments that match a true one (true positives).
        wrong: Predicted segments without a match (false positives).
        missed: True segments without a match (false negatives).
    """

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: 'SegmentCounts') -> 'SegmentCounts':
        return SegmentCounts(
            self.right + other.right, self.wrong + other.wrong, self.missed + other.missed
        )

    @property
    def f1(self) -> float:
        """F1 in [0, 1]; 1 if there are neither true nor predicted segments."""
        total = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / total if total else 1.0


def runs(labels: Sequence[int], *, background: Collection[int] = ()) -> list[LabelRun]:
    """Return the segments of a sequence of labels, without background segments."""
    found: list[LabelRun] = []
    for label, places in groupby(range(len(labels)), key=lambda place: labels[place]):
        inside = list(places)
        if label not in background:
            found.append(LabelRun(label, inside[0], inside[-1] + 1))
    return found


def find_segments(
    predicted: Sequence[LabelRun], true: Sequence[LabelRun], *, overlap: float
) -> SegmentCounts:
    """Match predicted with true segments of the same label and count the matches.

    A predicted segment is compared with the true segment of its label that it overlaps most. It is
    wrong if the overlap is too small or if that true segment has a match already.

    Args:
        predicted: Predicted segments, in order.
        true: True segments.
        overlap: Minimal intersection over union of a match, in (0, 1].
    """
    taken: set[int] = set()
    for segment in predicted:
        shares = [_intersection_over_union(segment, other) for other in true]
        best = max(range(len(true)), key=shares.__getitem__, default=-1)
        if best >= 0 and shares[best] >= overlap and best not in taken:
            taken.add(best)
    return SegmentCounts(len(taken), len(predicted) - len(taken), len(true) - len(taken))


def edit_score(predicted: Sequence[LabelRun], true: Sequence[LabelRun]) -> float:
    """Return 1 minus the edit distance of the segments' labels, divided by the longer length.

    Returns:
        A score in [0, 1]; 1 if both are empty.
    """
    ours, theirs = ([segment.label for segment in segments] for segments in (predicted, true))
    longest = max(len(ours), len(theirs))
    return 1 - _edit_distance(ours, theirs) / longest if longest else 1.0


def _intersection_over_union(one: LabelRun, other: LabelRun) -> float:
    if one.label != other.label:
        return 0.0
    shared = min(one.end, other.end) - max(one.start, other.start)
    return max(0, shared) / (max(one.end, other.end) - min(one.start, other.start))


def _edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the Levenshtein distance, computed row by row."""
    row = list(range(len(other) + 1))
    for deleted, label in enumerate(one, start=1):
        before, row[0] = row[0], deleted
        for place, match in enumerate(other, start=1):
            kept = before + (label != match)
            before = row[place]
            row[place] = min(kept, row[place] + 1, row[place - 1] + 1)
    return row[-1]
