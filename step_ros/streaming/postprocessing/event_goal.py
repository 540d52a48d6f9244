"""Waiting for an action: which of the events that are open is what somebody waits for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.postprocessing.events import Event


@dataclass(frozen=True, kw_only=True)
class WaitGoal:
    """What is waited for.

    Attributes:
        task: Which task decides; empty for any.
        labels: Any of these; empty for any.
        camera: Which camera; empty for any.
        minimum_score: Lowest mean score of the event so far.
        minimum_order_evidence: Lowest mean order evidence of the event so far.
        minimum_duration_ns: How long it must have lasted.
        include_current: Whether an event that is open already counts.
    """

    task: str = ''
    labels: frozenset[str] = frozenset()
    camera: str = ''
    minimum_score: float = 0.0
    minimum_order_evidence: float = 0.0
    minimum_duration_ns: int = 0
    include_current: bool = False

    def __post_init__(self) -> None:
        for name in ('minimum_score', 'minimum_order_evidence'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name}={getattr(self, name):g}; expected 0 to 1')
        if self.minimum_duration_ns < 0:
            seconds = self.minimum_duration_ns / NANOSECONDS
            raise ValueError(f'minimum_duration of {seconds:g} s; expected 0 or more')

    def check(self, tasks: Sequence[TaskSpec], cameras: Sequence[str]) -> None:
        """Refuse to wait for what cannot happen.

        Args:
            tasks: The tasks that are answered.
            cameras: The cameras that are looked at.

        Raises:
            ValueError: The task, a label or the camera is unknown; lists those that are known.
        """
        if self.camera and self.camera not in cameras:
            raise ValueError(f'camera={self.camera!r}; expected one of: {", ".join(cameras)}')
        asked = [task for task in tasks if self.task in ('', task.name)]
        if not asked:
            names = ', '.join(task.name for task in tasks)
            raise ValueError(f'task={self.task!r}; expected one of: {names}')
        known = {label for task in asked for label in task.labels}
        if unknown := sorted(self.labels - known):
            whose = f'task {self.task!r}' if self.task else 'any task'
            raise ValueError(
                f'labels={unknown} are none of {whose}; expected some of: '
                + ', '.join(sorted(known))
            )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The best answer at present among the labels that are waited for.

    Attributes:
        camera: Name of the camera.
        task: What was decided.
        label: The label.
        score: Its score in the newest window.
        order_evidence: Of the newest window.
        held_ns: How long its event has been open; 0 where it has not begun.
    """

    camera: str
    task: str
    label: str
    score: float
    order_evidence: float
    held_ns: int


class ActionWait:
    """Looks for an event that matches, in the stream of one node's hypotheses.

    Args:
        goal: What is waited for.
        current: The events that are open now.
    """

    def __init__(self, goal: WaitGoal, current: Iterable[Event] = ()) -> None:
        self.goal = goal
        self._earlier = set() if goal.include_current else {_identity(event) for event in current}
        self._candidates: dict[str, Candidate] = {}

    @property
    def best(self) -> Candidate | None:
        """The candidate with the highest score, over all cameras; None before the first."""
        candidates = self._candidates.values()
        return max(candidates, key=lambda each: each.score, default=None)

    def update(self, hypothesis: Hypothesis, open_events: Iterable[Event]) -> Event | None:
        """Take a hypothesis and what is open on its camera after it.

        Returns:
            The event that was waited for, with the means so far; None where there is none yet.
        """
        if self.goal.camera not in ('', hypothesis.camera):
            return None
        events = [event for event in open_events if self._wanted(event.task, event.label)]
        self._note(hypothesis, events)
        for event in events:
            if _identity(event) not in self._earlier and self._suffices(event, hypothesis):
                return event
        return None

    def _wanted(self, task: str, label: str) -> bool:
        goal = self.goal
        return goal.task in ('', task) and (not goal.labels or label in goal.labels)

    def _suffices(self, event: Event, hypothesis: Hypothesis) -> bool:
        goal = self.goal
        # Not the other way round: order evidence that was not asked for is NaN, and no evidence.
        in_order = goal.minimum_order_evidence == 0 or (
            event.order_evidence >= goal.minimum_order_evidence
        )
        lasted_ns = hypothesis.stamp_ns - event.start_ns
        return (
            in_order
            and event.score >= goal.minimum_score
            and lasted_ns >= goal.minimum_duration_ns
        )

    def _note(self, hypothesis: Hypothesis, events: Sequence[Event]) -> None:
        began = {(event.task, event.label): event.start_ns for event in events}
        found = [
            Candidate(
                camera=hypothesis.camera,
                task=task.spec.name,
                label=label,
                score=score,
                order_evidence=task.order_evidence,
                held_ns=hypothesis.stamp_ns
                - began.get((task.spec.name, label), hypothesis.stamp_ns),
            )
            for task in hypothesis.tasks
            for label, score in task.top(len(task.spec.labels))
            if self._wanted(task.spec.name, label)
        ]
        if found:
            self._candidates[hypothesis.camera] = max(found, key=lambda each: each.score)


def _identity(event: Event) -> tuple[str, str, str, int]:
    return event.camera, event.task, event.label, event.start_ns
