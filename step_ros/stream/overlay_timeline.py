"""The events of one camera in the last seconds, in bounded memory."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from step_ros.stream.events import Event, EventType

# Events of a task that are remembered, however many come.
_MOST = 64


@dataclass(kw_only=True)
class Span:
    """A label that began, and perhaps ended.

    Attributes:
        label: The label.
        start_ns: When it began.
        end_ns: When it last held; None while it is open.
    """

    label: str
    start_ns: int
    end_ns: int | None = None


class EventTimeline:
    """What began and ended of late, by task.

    Args:
        length_ns: How far back it reaches.
    """

    def __init__(self, length_ns: int) -> None:
        self.length_ns = length_ns
        self._spans: dict[str, deque[Span]] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._spans.clear()

    def add(self, event: Event) -> None:
        """Take an event; an END whose START is not known is passed over."""
        spans = self._spans.setdefault(event.task, deque(maxlen=_MOST))
        if event.type == EventType.START:
            spans.append(Span(label=event.label, start_ns=event.start_ns))
        elif spans and spans[-1].end_ns is None and spans[-1].start_ns == event.start_ns:
            spans[-1].end_ns = event.stamp_ns

    def spans(self, task: str, now_ns: int) -> Sequence[Span]:
        """Return what is to be seen of a task now, oldest first; older ones are forgotten."""
        spans = self._spans.get(task)
        if spans is None:
            return ()
        begin_ns = now_ns - self.length_ns
        while spans and spans[0].end_ns is not None and spans[0].end_ns < begin_ns:
            spans.popleft()
        return tuple(spans)

    def open_label(self, task: str) -> str:
        """Return the label that is open; empty where none is."""
        spans = self._spans.get(task)
        return spans[-1].label if spans and spans[-1].end_ns is None else ''
