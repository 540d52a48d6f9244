# SPDX-License-Identifier: Apache-2.0
"""True labels over time, and hypotheses compared with them.

A window is settled if one label is true all through it; accuracy counts settled windows only.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TaskPrediction:
    """The prediction of one task for a window.

    Attributes:
        label: Label with the highest score.
        score: Score of the label, in [0, 1].
        counterpart: Nearly symmetric partner of the label; empty if it has none.
        counterpart_score: Score of the counterpart.
        order_evidence: How much the prediction depends on frame order, in [0, 1].
    """

    label: str
    score: float
    counterpart: str
    counterpart_score: float
    order_evidence: float


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A hypothesis as a client of the recogniser receives it.

    Attributes:
        camera: Name of the camera.
        window_start_ns: Stamp of the window's oldest frame.
        stamp_ns: Stamp of the window's newest frame.
        arrival_ns: Time of arrival, by the clock of the stamps.
        node_latency_ns: The node's part of the latency.
        predictions: Prediction of each task.
    """

    camera: str
    window_start_ns: int
    stamp_ns: int
    arrival_ns: int
    node_latency_ns: int
    predictions: dict[str, TaskPrediction]

    @property
    def latency_ms(self) -> float:
        """Milliseconds from the stamp of the newest frame to the arrival of the hypothesis."""
        return (self.arrival_ns - self.stamp_ns) / 1e6


@dataclass(kw_only=True)
class TruthSegment:
    """A time span with one true label; `end_ns` is None while the label lasts."""

    label: str
    start_ns: int
    end_ns: int | None = None

    def covers(self, start_ns: int, end_ns: int) -> bool:
        """Return whether a window lies entirely in the segment."""
        return self.start_ns <= start_ns and (self.end_ns is None or end_ns <= self.end_ns)


@dataclass(kw_only=True)
class Truth:
    """True labels over time, for each task."""

    segments: dict[str, list[TruthSegment]] = field(default_factory=lambda: defaultdict(list))

    def start(self, task: str, label: str, start_ns: int) -> None:
        """Add the start of a label; an open segment of the task ends there."""
        known = self.segments[task]
        if known and known[-1].end_ns is None:
            known[-1].end_ns = start_ns
        known.append(TruthSegment(label=label, start_ns=start_ns))

    def end(self, task: str, label: str, start_ns: int, end_ns: int) -> None:
        """Add the end of a label; a segment whose start was missed is added."""
        for segment in reversed(self.segments[task]):
            if segment.label == label and segment.start_ns == start_ns:
                segment.end_ns = end_ns
                return
        self.segments[task].append(TruthSegment(label=label, start_ns=start_ns, end_ns=end_ns))
        self.segments[task].sort(key=lambda segment: segment.start_ns)

    def at(self, task: str, stamp_ns: int) -> str:
        """Return the true label at a time; empty if it is unknown."""
        return self.settled(task, stamp_ns, stamp_ns)

    def settled(self, task: str, start_ns: int, end_ns: int) -> str:
        """Return the label that is true all through a window; empty if none is."""
        for segment in reversed(self.segments.get(task, [])):
            if segment.covers(start_ns, end_ns):
                return segment.label
        return ''


def settled_accuracy(observations: Sequence[Observation], truth: Truth) -> dict[str, float]:
    """Return the share of settled windows with a correct label, by task.

    Tasks without a settled window are left out.
    """
    correct: dict[str, list[bool]] = defaultdict(list)
    for seen in observations:
        for task, prediction in seen.predictions.items():
            label = truth.settled(task, seen.window_start_ns, seen.stamp_ns)
            if label:
                correct[task].append(prediction.label == label)
    return {task: sum(hits) / len(hits) for task, hits in correct.items()}


def dropped_grid_frames(observations: Sequence[Observation], frame_period_ns: int) -> int:
    """Return the number of grid frames that are missing between the hypotheses of each camera."""
    dropped = 0
    newest: dict[str, int] = {}
    for seen in observations:
        if seen.camera in newest:
            periods = round((seen.stamp_ns - newest[seen.camera]) / frame_period_ns)
            dropped += max(0, periods - 1)
        newest[seen.camera] = seen.stamp_ns
    return dropped
