"""Events: hysteresis that turns hypotheses into labels that begin and end."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis
from step_ros.streaming.postprocessing.smoothing import Continuity


class EventType(IntEnum):
    """Whether a label began or ended; the numbers are those of `ActionEvent`."""

    START = 1
    END = 2


@dataclass(frozen=True, kw_only=True)
class Event:
    """A label that began or ended.

    Attributes:
        camera: Name of the camera.
        frame_id: Its coordinate frame.
        task: What was decided.
        label: The label.
        type: Whether it began or ended.
        stamp_ns: When it began (START) or last held (END).
        start_ns: When it began.
        score: Its mean score while it held.
        order_evidence: Its mean order evidence while it held; NaN where that was not asked for.
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
    """When a label begins and ends.

    A label holds while it is the best one and its score does not fall below a threshold: the
    higher one until it has begun, the lower one afterwards.

    Attributes:
        on_threshold: Lowest score at which a label can begin.
        off_threshold: Lowest score at which a label that has begun still holds.
        minimum_duration_ns: How long it must hold, without a break, to begin.
        minimum_gap_ns: How long it must not hold to end; shorter breaks are bridged.
        minimum_order_evidence: Lowest order evidence at which a label that has a counterpart can
            begin. Others may well look the same in both orders.
        ignored_labels: Labels of any task that say that nothing happens: they never begin, but
            end what has begun, as any other label does.
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
                'a label that begins would end at once'
            )
        for name in ('minimum_duration', 'minimum_gap'):
            value = getattr(self, f'{name}_ns')
            if value < 0:
                raise ValueError(f'{name} of {value / NANOSECONDS:g} s; expected 0 or more')


@dataclass(kw_only=True)
class _Held:
    """A label that holds, or has held until a moment ago."""

    label: str
    start_ns: int
    last_ns: int
    scores: float = 0.0
    evidence: float = 0.0
    count: int = 0

    def add(self, stamp_ns: int, task: TaskHypothesis) -> None:
        self.last_ns = stamp_ns
        self.scores += task.score_of(self.label)
        self.evidence += task.order_evidence
        self.count += 1

    @property
    def mean_score(self) -> float:
        return min(1.0, self.scores / self.count)


@dataclass(kw_only=True)
class _Track:
    """One task of one camera: the label that has begun, and the one that may."""

    frame_id: str = ''
    begun: _Held | None = None
    candidate: _Held | None = None


class EventDetector:
    """Turns the hypotheses of any number of cameras into events.

    For each camera and task, START and END alternate, an END has the label and beginning of the
    START before it, and never two labels are open at once. Where time jumps back or a window is
    begun anew, what is open ends; likewise where a task is not answered any more.

    Args:
        settings: When a label begins and ends.
        max_gap_ns: Longest time between two grid frames of one window, as the recogniser has it.

    Attributes:
        settings: May be replaced at any time; what is open goes on by the new ones.
    """

    def __init__(self, settings: EventSettings, *, max_gap_ns: int) -> None:
        self.settings = settings
        self._continuity = Continuity(max_gap_ns)
        self._cameras: dict[str, dict[str, _Track]] = {}

    def update(self, hypothesis: Hypothesis) -> list[Event]:
        """Take a hypothesis; return what it brings, in order.

        A START comes once a label has held long enough, stamped with when it began to; an END
        once it has not held for long enough, stamped with when it last did. A label that has held
        long enough to begin ends another one at once.
        """
        camera = hypothesis.camera
        tracks = self._cameras.setdefault(camera, {})
        answered = {task.spec.name for task in hypothesis.tasks}
        ending = [task for task in tracks if task not in answered]
        if not self._continuity.take(hypothesis):
            ending = list(tracks)
        events = self._end(camera, ending, stamp_ns=None)
        for task in hypothesis.tasks:
            track = tracks.setdefault(task.spec.name, _Track())
            track.frame_id = hypothesis.frame_id
            events += self._advance(camera, track, task, hypothesis.stamp_ns)
        return events

    def close(self, camera: str | None = None, stamp_ns: int | None = None) -> list[Event]:
        """End what is open: on deactivation, or at the end of a recording.

        Args:
            camera: Of this camera alone; None for all of them.
            stamp_ns: When it ends, if that is later than when it last held; None for the latter.
        """
        events = []
        for name in [*self._cameras] if camera is None else [camera]:
            events += self._end(name, list(self._cameras.get(name, ())), stamp_ns=stamp_ns)
            self._continuity.forget(name)
        return events

    def open_events(self, camera: str | None = None) -> list[Event]:
        """Return what has begun and not ended: its STARTs, with the means so far.

        Args:
            camera: Of this camera alone; None for all of them.
        """
        return [
            _event(name, track, task, track.begun, EventType.START)
            for name in (self._cameras if camera is None else [camera])
            for task, track in self._cameras.get(name, {}).items()
            if track.begun is not None
        ]

    def _advance(
        self, camera: str, track: _Track, task: TaskHypothesis, stamp_ns: int
    ) -> list[Event]:
        settings = self.settings
        label = task.label
        score = task.score_of(label)
        ignored = label in settings.ignored_labels
        begun = track.begun
        if begun is not None and begun.label == label and not ignored:
            track.candidate = None
            if score >= settings.off_threshold:
                begun.add(stamp_ns, task)
                return []
        elif not ignored and score >= settings.on_threshold and self._in_order(task):
            if track.candidate is None or track.candidate.label != label:
                track.candidate = _Held(label=label, start_ns=stamp_ns, last_ns=stamp_ns)
            track.candidate.add(stamp_ns, task)
        else:
            track.candidate = None
        events = []
        candidate = track.candidate
        begins = candidate is not None and (
            stamp_ns - candidate.start_ns >= settings.minimum_duration_ns
        )
        if begun is not None and (begins or stamp_ns - begun.last_ns >= settings.minimum_gap_ns):
            events.append(_event(camera, track, task.spec.name, begun, EventType.END))
            track.begun = None
        if candidate is not None and begins:
            events.append(_event(camera, track, task.spec.name, candidate, EventType.START))
            track.begun, track.candidate = candidate, None
        return events

    def _in_order(self, task: TaskHypothesis) -> bool:
        minimum = self.settings.minimum_order_evidence
        return not task.counterpart or minimum == 0 or task.order_evidence >= minimum

    def _end(self, camera: str, tasks: Iterable[str], *, stamp_ns: int | None) -> list[Event]:
        events = []
        for task in tasks:
            track = self._cameras[camera].pop(task)
            if track.begun is not None:
                if stamp_ns is not None:
                    track.begun.last_ns = max(stamp_ns, track.begun.last_ns)
                events.append(_event(camera, track, task, track.begun, EventType.END))
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
