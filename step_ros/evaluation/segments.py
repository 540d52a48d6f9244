"""Segmental metrics of a sequence of labels: F1 at an overlap, and edit score.

As Farha and Gall define them (MS-TCN, CVPR 2019, Sec. 4.1) after Lea et al. (CVPR 2017): neither
minds that a boundary is shifted a little, both mind that a segment is cut to pieces.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

OVERLAPS = (10, 25, 50)


@dataclass(frozen=True)
class LabelRun:
    """Equal labels in a row.

    Attributes:
        label: The label.
        start: Place of the first one.
        end: Place after the last one.
    """

    label: int
    start: int
    end: int


@dataclass(frozen=True)
class Found:
    """How many segments were found.

    Attributes:
        right: Predicted segments that lie on a true one of their own.
        wrong: Predicted segments that do not.
        missed: True segments on which none lies.
    """

    right: int = 0
    wrong: int = 0
    missed: int = 0

    def __add__(self, other: 'Found') -> 'Found':
        return Found(
            self.right + other.right, self.wrong + other.wrong, self.missed + other.missed
        )

    @property
    def f1(self) -> float:
        """F1 in [0, 1]; 1 where there was nothing to find and nothing was predicted."""
        total = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / total if total else 1.0


def runs(labels: Sequence[int], *, background: Collection[int] = ()) -> list[LabelRun]:
    """Cut a sequence of labels into segments; those of the background are left out."""
    found: list[LabelRun] = []
    for label, places in groupby(range(len(labels)), key=lambda place: labels[place]):
        inside = list(places)
        if label not in background:
            found.append(LabelRun(label, inside[0], inside[-1] + 1))
    return found


def find_segments(
    predicted: Sequence[LabelRun], true: Sequence[LabelRun], *, overlap: float
) -> Found:
    """Count the segments found: with at least this intersection over union, label for label.

    A predicted segment is held against the true one of its label that it overlaps most; where
    that one has been found already, it is wrong.

    Args:
        predicted: Predicted segments, in order.
        true: True segments.
        overlap: Least intersection over union, in (0, 1].
    """
    taken: set[int] = set()
    for segment in predicted:
        shares = [_intersection_over_union(segment, other) for other in true]
        best = max(range(len(true)), key=shares.__getitem__, default=-1)
        if best >= 0 and shares[best] >= overlap and best not in taken:
            taken.add(best)
    return Found(len(taken), len(predicted) - len(taken), len(true) - len(taken))


def edit_score(predicted: Sequence[LabelRun], true: Sequence[LabelRun]) -> float:
    """Return 1 minus the edit distance of the segments' labels over the longer one's length.

    Returns:
        In [0, 1]; 1 where both are empty.
    """
    ours, theirs = ([segment.label for segment in some] for some in (predicted, true))
    longest = max(len(ours), len(theirs))
    return 1 - _edit_distance(ours, theirs) / longest if longest else 1.0


def _intersection_over_union(one: LabelRun, other: LabelRun) -> float:
    if one.label != other.label:
        return 0.0
    shared = min(one.end, other.end) - max(one.start, other.start)
    return max(0, shared) / (max(one.end, other.end) - min(one.start, other.start))


def _edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Levenshtein's distance, row by row."""
    row = list(range(len(other) + 1))
    for deleted, label in enumerate(one, start=1):
        before, row[0] = row[0], deleted
        for place, match in enumerate(other, start=1):
            kept = before + (label != match)
            before = row[place]
            row[place] = min(kept, row[place] + 1, row[place - 1] + 1)
    return row[-1]
