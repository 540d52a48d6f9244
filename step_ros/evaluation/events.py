# SPDX-License-Identifier: Apache-2.0
"""Compare published events with the true labels: delays, missed actions and false events."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from step_ros.evaluation.ground_truth import TruthSegment
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.postprocessing.events import Event, EventType


@dataclass(frozen=True, kw_only=True)
class TimedEvent:
    """An event, and the time at which it was published.

    Attributes:
        event: The event.
        published_ns: Stamp of the newest frame when the event was published, in nanoseconds.
    """

    event: Event
    published_ns: int


@dataclass(frozen=True, kw_only=True)
class EventCounts:
    """Counts of the events of one camera and task.

    Attributes:
        actions: True segments for which an event is expected.
        delays_s: For each segment with a correct event, seconds from its start to the publication.
        repeated: Further correct events of a segment that had one.
        false: Events of a label that was not true at any time from their start to publication.
        unjudged: Events at a time without a true label.
        labelled_ns: Time with true labels, in nanoseconds.
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
        """False events per minute of labelled time; None without labelled time."""
        if not self.labelled_ns:
            return None
        return self.false * 60 * NANOSECONDS / self.labelled_ns


def count_events(
    events: Sequence[TimedEvent],
    segments: Sequence[TruthSegment],
    *,
    first_ns: int,
    last_ns: int,
    ignored: Collection[str] = (),
) -> EventCounts:
    """Compare the START events of one camera and task with the true segments.

    A START is correct if its label was true at some moment between its start stamp and its
    publication. The first correct START of a segment gives the segment's delay: the time from the
    start of the segment, or of the recording if that is later, to the publication.

    Args:
        events: The events, in the order of publication.
        segments: True segments, ascending and without overlap.
        first_ns: Stamp of the first frame, in nanoseconds.
        last_ns: Stamp of the last frame, in nanoseconds.
        ignored: Labels that never make an event; their segments expect none.
    """
    clipped = [
        (segment.label, max(segment.start_ns, first_ns), min(_end(segment, last_ns), last_ns))
        for segment in segments
    ]
    # Delay of each segment that has a correct event, by its place in `clipped`.
    delays_s: dict[int, float] = {}
    repeated = false = unjudged = 0
    for each in events:
        if each.event.type is not EventType.START:
            continue
        during = [
            place
            for place, (_, start_ns, end_ns) in enumerate(clipped)
            if start_ns <= each.published_ns and each.event.start_ns < end_ns
        ]
        correct = [place for place in during if clipped[place][0] == each.event.label]
        unmatched = [place for place in correct if place not in delays_s]
        if unmatched:
            delays_s[unmatched[0]] = (each.published_ns - clipped[unmatched[0]][1]) / 1e9
        elif correct:
            repeated += 1
        elif during:
            false += 1
        else:
            unjudged += 1
    return EventCounts(
        actions=sum(label not in ignored for label, _, _ in clipped),
        delays_s=tuple(delay for place, delay in sorted(delays_s.items())),
        repeated=repeated,
        false=false,
        unjudged=unjudged,
        labelled_ns=sum(end_ns - start_ns for _, start_ns, end_ns in clipped),
    )


def _end(segment: TruthSegment, last_ns: int) -> int:
    return last_ns if segment.end_ns is None else segment.end_ns
