# SPDX-License-Identifier: Apache-2.0
"""Events: hysteresis over the hypotheses makes labels that start and end.

    best label    idle  open  open  open  idle  open  open  idle  idle  idle
    its score      .9    .7    .7    .7    .9    .5    .7    .9    .9    .9
    holds               [===============]       [=========]
    event                            START                         END

The label `open` starts once it has held for `minimum_duration`; the START carries the stamp of the
first `open`. A break shorter than `minimum_gap` is bridged, and after the start the lower
threshold suffices. The END carries the stamp of the last window that held.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis
from step_ros.streaming.postprocessing.smoothing import Continuity


class EventType(IntEnum):
    """Whether a label started or ended; the numbers are those of the message `ActionEvent`."""

    START = 1
    END = 2


@dataclass(frozen=True, kw_only=True)
class Event:
    """A label that started or ended.

    Attributes:
        camera: Name of the camera.
        frame_id: Coordinate frame of the camera.
        task: Name of the task.
        label: The label.
        type: Whether it started or ended.
        stamp_ns: When it started (START) or last held (END), in nanoseconds.
        start_ns: When it started, in nanoseconds.
        score: Its mean score while it held.
        order_evidence: Its mean order evidence while it held; NaN if it was not computed.
    """

    camera: str
    frame_id: str
    task: str
    label: str
    type: EventType
    stamp_ns: int
    start_ns: int
    score: float
    order_evidence: float


@dataclass(frozen=True, kw_only=True)
class EventSettings:
    """When a label starts and ends.

    A label holds while it has the best score and this score is not below a threshold: the higher
    one until the label has started, the lower one afterwards.

    Attributes:
        on_threshold: Lowest score at which a label can start.
        off_threshold: Lowest score at which a started label still holds.
        minimum_duration_ns: How long a label must hold without a break to start.
        minimum_gap_ns: How long a label must not hold to end; shorter breaks are bridged.
        minimum_order_evidence: Lowest order evidence at which a label with a counterpart can
            start. Other labels may look the same in both orders, so it does not apply to them.
        ignored_labels: Labels of any task for "nothing happens": they never start, but end a
            started label as any other label does.

    Raises:
        ValueError: A threshold or the order evidence is not in [0, 1], the thresholds are in the
            wrong order, or a time is negative.
    """

    on_threshold: float
    off_threshold: float
    minimum_duration_ns: int
    minimum_gap_ns: int
    minimum_order_evidence: float = 0.0
    ignored_labels: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ('on_threshold', 'off_threshold', 'minimum_order_evidence'):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f'{name}={value}; expected 0 to 1')
        if self.off_threshold > self.on_threshold:
            raise ValueError(
                f'off_threshold={self.off_threshold} is above on_threshold={self.on_threshold}; '
                'a label that starts would end at once'
            )
        for name in ('minimum_duration', 'minimum_gap'):
            value = getattr(self, f'{name}_ns')
            if value < 0:
                raise ValueError(f'{name} of {value / NANOSECONDS:g} s; expected 0 or more')


@dataclass(kw_only=True)
class _Held:
    """A label that holds, or held until a moment ago, and the sums for its means."""

    label: str
    start_ns: int
    last_ns: int
    scores: float = 0.0
    evidence: float = 0.0
    count: int = 0

    def add_window(self, stamp_ns: int, task: TaskHypothesis) -> None:
        self.last_ns = stamp_ns
        self.scores += task.score_of(self.label)
        self.evidence += task.order_evidence
        self.count += 1

    @property
    def mean_score(self) -> float:
        return min(1.0, self.scores / self.count)


@dataclass(kw_only=True)
class _Track:
    """One task of one camera: the started label, and the one that may start next."""

    frame_id: str = ''
    started: _Held | None = None
    candidate: _Held | None = None


class EventDetector:
    """Turns the hypotheses of any number of cameras into events.

    For each camera and task, START and END alternate, an END has the label and the start of the
    START before it, and at most one label is open. The open label ends if time jumps back, if the
    window restarts, or if a hypothesis no longer has the task.

    Args:
        settings: When a label starts and ends.
        max_gap_ns: Longest time between two grid frames of one window, as in the recogniser.

    Attributes:
        settings: May be replaced at any time; the new ones apply to open labels too.
    """

    def __init__(self, settings: EventSettings, *, max_gap_ns: int) -> None:
        self.settings = settings
        self._continuity = Continuity(max_gap_ns)
        self._cameras: dict[str, dict[str, _Track]] = {}

    def add_hypothesis(self, hypothesis: Hypothesis) -> list[Event]:
        """Return the events that a hypothesis starts or ends, in order.

        A START comes once a label has held long enough; its stamp is the time when the label began
        to hold. An END comes once the label has not held for long enough; its stamp is the time
        when the label last held. A label that has held long enough ends another one at once.
        """
        camera = hypothesis.camera
        tracks = self._cameras.setdefault(camera, {})
        present = {task.spec.name for task in hypothesis.tasks}
        ending = [task for task in tracks if task not in present]
        if not self._continuity.add_hypothesis(hypothesis):
            ending = list(tracks)
        events = self._end(camera, ending, stamp_ns=None)
        for task in hypothesis.tasks:
            track = tracks.setdefault(task.spec.name, _Track())
            track.frame_id = hypothesis.frame_id
            events += self._advance(camera, track, task, hypothesis.stamp_ns)
        return events

    def close(self, camera: str | None = None, stamp_ns: int | None = None) -> list[Event]:
        """End the open events, on deactivation or at the end of a recording; return their ENDs.

        Args:
            camera: Name of the camera; None for all of them.
            stamp_ns: When the events end, if later than they last held; None for when they held.
        """
        events = []
        for name in [*self._cameras] if camera is None else [camera]:
            events += self._end(name, list(self._cameras.get(name, ())), stamp_ns=stamp_ns)
            self._continuity.forget(name)
        return events

    def open_events(self, camera: str | None = None) -> list[Event]:
        """Return the open events: their STARTs, with the means so far.

        Args:
            camera: Name of the camera; None for all of them.
        """
        return [
            _event(name, track, task, track.started, EventType.START)
            for name in (self._cameras if camera is None else [camera])
            for task, track in self._cameras.get(name, {}).items()
            if track.started is not None
        ]

    def _advance(
        self, camera: str, track: _Track, task: TaskHypothesis, stamp_ns: int
    ) -> list[Event]:
        """Move a track on by one hypothesis; return the END and START that this gives."""
        settings = self.settings
        label = task.label
        score = task.score_of(label)
        ignored = label in settings.ignored_labels
        started = track.started
        if started is not None and started.label == label and not ignored:
            track.candidate = None
            if score >= settings.off_threshold:
                started.add_window(stamp_ns, task)
                return []
        elif not ignored and score >= settings.on_threshold and self._in_order(task):
            if track.candidate is None or track.candidate.label != label:
                track.candidate = _Held(label=label, start_ns=stamp_ns, last_ns=stamp_ns)
            track.candidate.add_window(stamp_ns, task)
        else:
            track.candidate = None
        events = []
        candidate = track.candidate
        starts = candidate is not None and (
            stamp_ns - candidate.start_ns >= settings.minimum_duration_ns
        )
        if started is not None and (
            starts or stamp_ns - started.last_ns >= settings.minimum_gap_ns
        ):
            events.append(_event(camera, track, task.spec.name, started, EventType.END))
            track.started = None
        if candidate is not None and starts:
            events.append(_event(camera, track, task.spec.name, candidate, EventType.START))
            track.started, track.candidate = candidate, None
        return events

    def _in_order(self, task: TaskHypothesis) -> bool:
        # Written so that NaN fails: order evidence that was not computed is no evidence.
        minimum = self.settings.minimum_order_evidence
        return not task.counterpart or minimum == 0 or task.order_evidence >= minimum

    def _end(self, camera: str, tasks: Iterable[str], *, stamp_ns: int | None) -> list[Event]:
        events = []
        for task in tasks:
            track = self._cameras[camera].pop(task)
            if track.started is not None:
                if stamp_ns is not None:
                    track.started.last_ns = max(stamp_ns, track.started.last_ns)
                events.append(_event(camera, track, task, track.started, EventType.END))
        return events


def _event(camera: str, track: _Track, task: str, held: _Held, kind: EventType) -> Event:
    return Event(
        camera=camera,
        frame_id=track.frame_id,
        task=task,
        label=held.label,
        type=kind,
        stamp_ns=held.start_ns if kind is EventType.START else held.last_ns,
        start_ns=held.start_ns,
        score=held.mean_score,
        order_evidence=held.evidence / held.count,
    )
