# SPDX-License-Identifier: Apache-2.0
"""Waiting for an action: which open event is the one that a client waits for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.postprocessing.events import Event


@dataclass(frozen=True, kw_only=True)
class StartLimits:
    """The settings of a node that keep some events from starting.

    Attributes:
        active_tasks: The tasks that are published; None for all.
        active_cameras: The cameras that the node subscribes to; None for all.
        ignored_labels: Labels that start no event.
        order_evidence: Whether order evidence is computed.
    """

    active_tasks: frozenset[str] | None = None
    active_cameras: frozenset[str] | None = None
    ignored_labels: frozenset[str] = frozenset()
    order_evidence: bool = True


@dataclass(frozen=True, kw_only=True)
class WaitGoal:
    """The event that a client waits for.

    Attributes:
        task: Name of the task; empty for any.
        labels: Labels that fulfil the goal, one is enough; empty for any label.
        camera: Name of the camera; empty for any.
        minimum_score: Lowest mean score of the event so far.
        minimum_order_evidence: Lowest mean order evidence of the event so far.
        minimum_duration_ns: How long the event must have lasted, in nanoseconds.
        timeout_ns: Longest time to wait, in nanoseconds; 0 for no limit.
        include_current: Whether an event counts that is open when the wait starts.

    Raises:
        ValueError: A score or order evidence is not in [0, 1], or a time is negative.
    """

    task: str = ''
    labels: frozenset[str] = frozenset()
    camera: str = ''
    minimum_score: float = 0.0
    minimum_order_evidence: float = 0.0
    minimum_duration_ns: int = 0
    timeout_ns: int = 0
    include_current: bool = False

    def __post_init__(self) -> None:
        for name in ('minimum_score', 'minimum_order_evidence'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name}={getattr(self, name):g}; expected 0 to 1')
        for name in ('minimum_duration', 'timeout'):
            seconds = getattr(self, f'{name}_ns') / NANOSECONDS
            if seconds < 0:
                raise ValueError(f'{name} of {seconds:g} s; expected 0 or more')

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

    def check_can_start(self, tasks: Sequence[TaskSpec], limits: StartLimits) -> None:
        """Check that the node's settings let an event start that meets the goal.

        Args:
            tasks: The tasks of the bundle.
            limits: The node's settings.

        Raises:
            ValueError: No event can meet the goal; the message names the parameter to change.
        """
        cameras, active = limits.active_cameras, limits.active_tasks
        if self.camera and cameras is not None and self.camera not in cameras:
            raise ValueError(
                f'camera={self.camera!r} is not active; the parameter active_cameras holds: '
                + ', '.join(sorted(cameras))
            )
        if self.minimum_order_evidence > 0 and not limits.order_evidence:
            raise ValueError(
                f'minimum_order_evidence={self.minimum_order_evidence:g}, but the node computes '
                'no order evidence; set the parameter order_evidence to true'
            )
        asked = [task for task in tasks if self.task in ('', task.name)]
        published = [task for task in asked if active is None or task.name in active]
        if not any(self._wanted_labels(task) for task in published):
            names = [task.name for task in asked if self._wanted_labels(task)]
            raise ValueError(
                f'task={" or ".join(names)!r} is not active; the parameter active_tasks holds: '
                + ', '.join(sorted(active or ()))
            )
        wanted = {label for task in published for label in self._wanted_labels(task)}
        if wanted <= limits.ignored_labels:
            raise ValueError(
                f'labels={sorted(wanted)} never start an event; the parameter ignored_labels '
                'holds: ' + ', '.join(sorted(limits.ignored_labels))
            )

    def _wanted_labels(self, task: TaskSpec) -> set[str]:
        return set(task.labels) & self.labels if self.labels else set(task.labels)


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

    Attributes:
        goal: The event to wait for.
        updates: Number of hypotheses about the goal's cameras so far.
    """

    def __init__(self, goal: WaitGoal, current: Iterable[Event] = ()) -> None:
        self.goal = goal
        self._earlier = set() if goal.include_current else {_identity(event) for event in current}
        # By camera: its newest hypothesis and the wanted ones among its open events.
        self._newest: dict[str, tuple[Hypothesis, Sequence[Event]]] = {}
        self._candidates: dict[str, Candidate] = {}
        self.updates = 0

    @property
    def best(self) -> Candidate | None:
        """The candidate with the highest score, over all cameras; None before the first."""
        # Sorting all scores is dear: do it for feedback, not for every hypothesis of every goal.
        while self._newest:
            self._note_candidate(*self._newest.popitem()[1])
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
        self._newest[hypothesis.camera] = hypothesis, events
        self.updates += 1
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
