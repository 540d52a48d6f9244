"""Events against the true labels: how late they come, what is missed, what is false."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from step_ros.evaluation.ground_truth import TruthSegment
from step_ros.streaming.postprocessing.events import Event, EventType


@dataclass(frozen=True, kw_only=True)
class TimedEvent:
    """An event, and when it was known.

    Attributes:
        event: The event.
        published_ns: Stamp of the newest frame when it was told, in nanoseconds.
    """

    event: Event
    published_ns: int


NANOSECONDS_PER_MINUTE = 60_000_000_000


@dataclass(frozen=True, kw_only=True)
class EventCounts:
    """What the events of one camera and task were worth.

    Attributes:
        actions: True segments that an event should have told.
        delays_s: For each one told, seconds from its beginning until it was.
        repeated: Further events of a segment that had been told.
        false: Events of a label that was not true while they were found out.
        unjudged: Events at a time without a label.
        labelled_ns: Length of the time in which an event is judged.
    """

    actions: int = 0
    delays_s: tuple[float, ...] = ()
    repeated: int = 0
    false: int = 0
    unjudged: int = 0
    labelled_ns: int = 0

    def __add__(self, other: 'EventCounts') -> 'EventCounts':
        return EventCounts(
            actions=self.actions + other.actions,
            delays_s=self.delays_s + other.delays_s,
            repeated=self.repeated + other.repeated,
            false=self.false + other.false,
            unjudged=self.unjudged + other.unjudged,
            labelled_ns=self.labelled_ns + other.labelled_ns,
        )

    @property
    def false_per_minute(self) -> float | None:
        """False events in a minute of labelled time; None without any."""
        if not self.labelled_ns:
            return None
        return self.false * NANOSECONDS_PER_MINUTE / self.labelled_ns


def count_events(
    events: Sequence[TimedEvent],
    segments: Sequence[TruthSegment],
    *,
    first_ns: int,
    last_ns: int,
    ignored: Collection[str] = (),
) -> EventCounts:
    """Hold the STARTs of one camera and task against the true segments.

    A START is right if its label was true at some moment from when it began holding to when it
    was told. The first right one of a segment tells it; the delay runs from the segment's
    beginning, or the recording's if that is later, to when it was told.

    Args:
        events: The events, in the order in which they were told.
        segments: True segments, ascending and apart.
        first_ns: Stamp of the first frame.
        last_ns: Stamp of the last frame.
        ignored: Labels that never make an event: nothing is to be told of them.
    """
    clipped = [
        (segment.label, max(segment.start_ns, first_ns), min(_end(segment, last_ns), last_ns))
        for segment in segments
    ]
    told: dict[int, float] = {}
    repeated = false = unjudged = 0
    for each in events:
        if each.event.type is not EventType.START:
            continue
        during = [
            place
            for place, (_, start_ns, end_ns) in enumerate(clipped)
            if start_ns <= each.published_ns and each.event.start_ns < end_ns
        ]
        right = [place for place in during if clipped[place][0] == each.event.label]
        fresh = [place for place in right if place not in told]
        if fresh:
            told[fresh[0]] = (each.published_ns - clipped[fresh[0]][1]) / 1e9
        elif right:
            repeated += 1
        elif during:
            false += 1
        else:
            unjudged += 1
    return EventCounts(
        actions=sum(label not in ignored for label, _, _ in clipped),
        delays_s=tuple(delay for place, delay in sorted(told.items())),
        repeated=repeated,
        false=false,
        unjudged=unjudged,
        labelled_ns=sum(end_ns - start_ns for _, start_ns, end_ns in clipped),
    )


def _end(segment: TruthSegment, last_ns: int) -> int:
    return last_ns if segment.end_ns is None else segment.end_ns
