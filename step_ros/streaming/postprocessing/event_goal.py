"""Waiting for an action: which open event is the one that a client waits for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.postprocessing.events import Event


@dataclass(frozen=True, kw_only=True)
class WaitGoal:
    """The event that a client waits for.

    Attributes:
        task: Name of the task; empty for any.
        labels: Labels, any of which will do; empty for any label.
        camera: Name of the camera; empty for any.
        minimum_score: Lowest mean score of the event so far.
        minimum_order_evidence: Lowest mean order evidence of the event so far.
        minimum_duration_ns: How long the event must have lasted, in nanoseconds.
        include_current: Whether an event counts that is open when the wait starts.

    Raises:
        ValueError: A score or order evidence is not in [0, 1], or the duration is negative.
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

    def check_names(self, tasks: Sequence[TaskSpec], cameras: Sequence[str]) -> None:
        """Check that the goal can happen.

        Args:
            tasks: The published tasks.
            cameras: The names of the cameras, as in the hypotheses.

        Raises:
            ValueError: The task, a label or the camera is unknown; the message lists the known
                ones.
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
                f'labels={unknown} are no labels of {whose}; expected some of: '
                + ', '.join(sorted(known))
            )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The wanted label with the highest score at present.

    Attributes:
        camera: Name of the camera.
        task: Name of the task.
        label: The label.
        score: Its score in the newest window.
        order_evidence: The task's order evidence in the newest window.
        held_ns: How long its event has been open; 0 if it has not started.
    """

    camera: str
    task: str
    label: str
    score: float
    order_evidence: float
    held_ns: int


class ActionWait:
    """Looks for an event that meets the goal, in one node's stream of hypotheses.

    Args:
        goal: The event to wait for.
        current: The events that are open when the wait starts.
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

    def add_hypothesis(self, hypothesis: Hypothesis, open_events: Iterable[Event]) -> Event | None:
        """Return the event that meets the goal after this hypothesis, with its means so far.

        Args:
            hypothesis: The newest hypothesis of a camera.
            open_events: The open events of this camera after it.

        Returns:
            The event; None if none meets the goal yet.
        """
        if self.goal.camera not in ('', hypothesis.camera):
            return None
        events = [event for event in open_events if self._is_wanted(event.task, event.label)]
        self._note_candidate(hypothesis, events)
        for event in events:
            if _identity(event) not in self._earlier and self._is_met_by(event, hypothesis):
                return event
        return None

    def _is_wanted(self, task: str, label: str) -> bool:
        goal = self.goal
        return goal.task in ('', task) and (not goal.labels or label in goal.labels)

    def _is_met_by(self, event: Event, hypothesis: Hypothesis) -> bool:
        goal = self.goal
        # Written so that NaN fails: order evidence that was not computed is no evidence.
        in_order = goal.minimum_order_evidence == 0 or (
            event.order_evidence >= goal.minimum_order_evidence
        )
        lasted_ns = hypothesis.stamp_ns - event.start_ns
        return (
            in_order
            and event.score >= goal.minimum_score
            and lasted_ns >= goal.minimum_duration_ns
        )

    def _note_candidate(self, hypothesis: Hypothesis, events: Sequence[Event]) -> None:
        starts_ns = {(event.task, event.label): event.start_ns for event in events}
        found = [
            Candidate(
                camera=hypothesis.camera,
                task=task.spec.name,
                label=label,
                score=score,
                order_evidence=task.order_evidence,
                held_ns=hypothesis.stamp_ns
                - starts_ns.get((task.spec.name, label), hypothesis.stamp_ns),
            )
            for task in hypothesis.tasks
            for label, score in task.top(len(task.spec.labels))
            if self._is_wanted(task.spec.name, label)
        ]
        if found:
            self._candidates[hypothesis.camera] = max(found, key=lambda each: each.score)


def _identity(event: Event) -> tuple[str, str, str, int]:
    return event.camera, event.task, event.label, event.start_ns
