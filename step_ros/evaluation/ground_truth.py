"""Truth against hypotheses over time: which windows are settled, and what is right about them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TaskAnswer:
    """What one task's head said about a window: best label, its counterpart, order evidence."""

    label: str
    score: float
    counterpart: str
    counterpart_score: float
    order_evidence: float


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A hypothesis as it was seen outside the recogniser.

    Attributes:
        camera: Name of the camera.
        window_start_ns: Stamp of the window's oldest frame.
        stamp_ns: Stamp of its newest frame.
        arrival_ns: When it arrived, by the clock of the stamps.
        node_latency_ns: The node's own part of the latency.
        answers: One for each task.
    """

    camera: str
    window_start_ns: int
    stamp_ns: int
    arrival_ns: int
    node_latency_ns: int
    answers: dict[str, TaskAnswer]

    @property
    def latency_ms(self) -> float:
        """Milliseconds from taking the newest frame to the arrival of the hypothesis."""
        return (self.arrival_ns - self.stamp_ns) / 1e6


@dataclass(kw_only=True)
class TruthSegment:
    """A stretch of time with one true label; `end_ns` is None while it lasts."""

    label: str
    start_ns: int
    end_ns: int | None = None

    def covers(self, start_ns: int, end_ns: int) -> bool:
        """Whether a window lies wholly in it."""
        return self.start_ns <= start_ns and (self.end_ns is None or end_ns <= self.end_ns)


@dataclass(kw_only=True)
class Truth:
    """True labels over time, for each task."""

    segments: dict[str, list[TruthSegment]] = field(default_factory=lambda: defaultdict(list))

    def start(self, task: str, label: str, start_ns: int) -> None:
        """Take note that a label began; what was open in the task ends there."""
        known = self.segments[task]
        if known and known[-1].end_ns is None:
            known[-1].end_ns = start_ns
        known.append(TruthSegment(label=label, start_ns=start_ns))

    def end(self, task: str, label: str, start_ns: int, end_ns: int) -> None:
        """Take note that a label ended; one whose beginning was missed is added."""
        for segment in reversed(self.segments[task]):
            if segment.label == label and segment.start_ns == start_ns:
                segment.end_ns = end_ns
                return
        self.segments[task].append(TruthSegment(label=label, start_ns=start_ns, end_ns=end_ns))
        self.segments[task].sort(key=lambda segment: segment.start_ns)

    def at(self, task: str, stamp_ns: int) -> str:
        """Return the true label at a time; empty where it is not known."""
        return self.settled(task, stamp_ns, stamp_ns)

    def settled(self, task: str, start_ns: int, end_ns: int) -> str:
        """Return the label that is true all through a window; empty where there is none."""
        for segment in reversed(self.segments.get(task, [])):
            if segment.covers(start_ns, end_ns):
                return segment.label
        return ''


def settled_accuracy(observations: Sequence[Observation], truth: Truth) -> dict[str, float]:
    """Return for each task the share of settled windows whose best label is right.

    A window is settled when one label is true all through it. A task without a settled window is
    left out.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for seen in observations:
        for task, answer in seen.answers.items():
            label = truth.settled(task, seen.window_start_ns, seen.stamp_ns)
            if label:
                right[task].append(answer.label == label)
    return {task: sum(hits) / len(hits) for task, hits in right.items()}


def dropped_grid_frames(observations: Sequence[Observation], frame_period_ns: int) -> int:
    """Count the grid frames that are missing between the hypotheses of each camera."""
    dropped = 0
    newest: dict[str, int] = {}
    for seen in observations:
        if seen.camera in newest:
            periods = round((seen.stamp_ns - newest[seen.camera]) / frame_period_ns)
            dropped += max(0, periods - 1)
        newest[seen.camera] = seen.stamp_ns
    return dropped
