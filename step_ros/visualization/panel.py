"""The panel below a frame: header, a cell for each task, and the timeline of events.

All lengths are in units (`overlay_canvas.Canvas`).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import TaskHypothesis
from step_ros.streaming.postprocessing.events import Event, EventType
from step_ros.visualization.canvas import GREY, TRACK, WHITE, Canvas, Colour

# ---- The events of one camera in the last seconds, in bounded memory.

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


_BEST: Colour = (38, 98, 168)

_COUNTERPART: Colour = (150, 92, 18)

_OTHER: Colour = (78, 86, 100)

_ORDER: Colour = (139, 96, 212)

_OPEN: Colour = (28, 138, 84)

_ENDED: Colour = (58, 92, 82)

_BEGINS: Colour = (120, 220, 160)

_MARGIN = 8.0

# Heights of capital letters.
_NAME, _TEXT, _SMALL, _TINY = 9.2, 8.6, 7.4, 6.4

_HEADER = 22.0

# A cell: its title, rows of bars, and the gap below them.
_NARROWEST_CELL = 200.0

_TITLE = 20.0

_ROW = 19.0

_BAR = 16.0

_BELOW_CELL = 8.0

_GAUGE = (34.0, 6.0)

# The timeline: a lane for each task with its name, and the axis below them.
_LANE = 18.0

_LANE_BAR = 15.0

_LANE_NAME = 58.0

_AXIS = 20.0

_SHORTEST_WITH_TEXT = 24.0


class Panel:
    """Draws what was said about one camera.

    Its height depends on its width alone, never on what there is to say.

    Args:
        tasks: The tasks, in the order in which they are drawn.
        labels: Labels of each, beside the counterpart of the best.
    """

    def __init__(self, tasks: Sequence[TaskSpec], *, labels: int) -> None:
        self._tasks = tuple(tasks)
        self._labels = labels

    def height(self, width: float) -> float:
        """Return its height when it is that wide."""
        return self._cells_height(width) + len(self._tasks) * _LANE + _AXIS

    def draw(
        self,
        canvas: Canvas,
        *,
        camera: str,
        facts: Sequence[str],
        answers: Mapping[str, TaskHypothesis],
        stale: bool,
        timeline: EventTimeline,
        now_ns: int | None,
    ) -> None:
        """Draw it.

        Args:
            canvas: Where to, from its upper left corner on.
            camera: What stands on the left of the header.
            facts: What stands on its right.
            answers: What was said, by task; tasks may be missing.
            stale: Whether that was some time ago.
            timeline: What began and ended.
            now_ns: Where the timeline ends; None while no stamp is known.
        """
        right = canvas.width - _MARGIN
        text = '   '.join(facts)
        taken = canvas.text(text, right, 15, height=_SMALL, colour=GREY, align='right')
        canvas.text(camera, _MARGIN, 15, height=_NAME, width=right - taken - 3 * _MARGIN)
        columns = self._columns(canvas.width)
        width = (canvas.width - _MARGIN) / columns - _MARGIN
        for index, spec in enumerate(self._tasks):
            row, column = divmod(index, columns)
            left = _MARGIN + column * (width + _MARGIN)
            top = _HEADER + row * self._cell_height
            answer = answers.get(spec.name)
            self._draw_title(canvas, left, top, width, spec.name, answer)
            self._draw_bars(canvas, left, top + _TITLE, width, answer, stale=stale)
        self._draw_timeline(canvas, self._cells_height(canvas.width), timeline, now_ns)

    @property
    def _cell_height(self) -> float:
        return _TITLE + (self._labels + 1) * _ROW + _BELOW_CELL

    def _cells_height(self, width: float) -> float:
        rows = -(-len(self._tasks) // self._columns(width))
        return _HEADER + rows * self._cell_height

    def _columns(self, width: float) -> int:
        """Return how many cells stand side by side: rows are as few and as full as can be."""
        most = max(1, int((width - _MARGIN) // (_NARROWEST_CELL + _MARGIN)))
        rows = -(-len(self._tasks) // most)
        return -(-len(self._tasks) // rows)

    def _draw_title(
        self,
        canvas: Canvas,
        left: float,
        top: float,
        width: float,
        name: str,
        answer: TaskHypothesis | None,
    ) -> None:
        room = width
        if answer is not None and not isnan(answer.order_evidence):
            wide, high = _GAUGE
            gauge = left + width - wide
            canvas.bar(gauge, top + 7, wide, high, TRACK)
            canvas.bar(gauge, top + 7, wide * answer.order_evidence, high, _ORDER)
            text = f'order {answer.order_evidence:.2f}'
            taken = canvas.text(
                text, gauge - 6, top + 14, height=_SMALL, colour=GREY, align='right'
            )
            room -= wide + 6 + taken + _MARGIN
        canvas.text(name, left, top + 14, height=_TEXT, width=room)

    def _draw_bars(
        self,
        canvas: Canvas,
        left: float,
        top: float,
        width: float,
        answer: TaskHypothesis | None,
        *,
        stale: bool,
    ) -> None:
        """Draw the best label, its counterpart and the next best labels."""
        rows: list[tuple[str, float | None, Colour]] = []
        if answer is not None:
            best, counterpart = answer.label, answer.counterpart
            rows.append((best, answer.score_of(best), _BEST))
            if counterpart:
                rows.append((f'vs {counterpart}', answer.score_of(counterpart), _COUNTERPART))
            else:
                rows.append(('no counterpart', None, TRACK))
            others = [each for each in answer.top(self._labels + 1)[1:] if each[0] != counterpart]
            rows += [(label, score, _OTHER) for label, score in others[: self._labels - 1]]
        for place in range(self._labels + 1):
            y = top + place * _ROW
            canvas.bar(left, y, width, _BAR, TRACK)
            if place >= len(rows):
                continue
            label, score, colour = rows[place]
            room, shade = width - 10, GREY if stale or score is None else WHITE
            if score is not None:
                canvas.bar(left, y, width * score, _BAR, _OTHER if stale else colour)
                room -= 6 + canvas.text(
                    f'{score:.2f}',
                    left + width - 5,
                    y + 12.2,
                    height=_TEXT,
                    colour=shade,
                    align='right',
                )
            canvas.text(label, left + 5, y + 12.2, height=_TEXT, colour=shade, width=room)

    def _draw_timeline(
        self, canvas: Canvas, top: float, timeline: EventTimeline, now_ns: int | None
    ) -> None:
        left = _MARGIN + _LANE_NAME
        width = canvas.width - _MARGIN - left
        for place, spec in enumerate(self._tasks):
            y = top + place * _LANE
            canvas.text(
                spec.name, _MARGIN, y + 12, height=_SMALL, colour=GREY, width=_LANE_NAME - 6
            )
            canvas.bar(left, y, width, _LANE_BAR, TRACK)
            spans = () if now_ns is None else timeline.spans(spec.name, now_ns)
            for span in spans:
                assert now_ns is not None
                begin, end = _extent(span, now_ns, timeline.length_ns)
                _draw_span(canvas, left + width * begin, left + width * end, y, span)
        seconds = timeline.length_ns / NANOSECONDS
        y = top + len(self._tasks) * _LANE + 8
        for share in (0.25, 0.5, 0.75):
            text = f'{(share - 1) * seconds:g} s'
            x = left + share * width
            canvas.text(text, x, y, height=_TINY, colour=GREY, align='centre')
        canvas.text(f'{-seconds:g} s', left, y, height=_TINY, colour=GREY)
        canvas.text('now', left + width, y, height=_TINY, colour=GREY, align='right')


def _extent(span: Span, now_ns: int, length_ns: int) -> tuple[float, float]:
    """Return where a span begins and ends on the timeline, from 0 to 1."""
    end_ns = now_ns if span.end_ns is None else min(span.end_ns, now_ns)
    begin = (span.start_ns - now_ns) / length_ns + 1
    end = (end_ns - now_ns) / length_ns + 1
    return min(1.0, max(0.0, begin)), max(0.0, end)


def _draw_span(canvas: Canvas, left: float, right: float, top: float, span: Span) -> None:
    colour = _OPEN if span.end_ns is None else _ENDED
    canvas.bar(left, top, right - left, _LANE_BAR, colour)
    canvas.bar(left, top, min(1.5, right - left), _LANE_BAR, _BEGINS)
    if right - left >= _SHORTEST_WITH_TEXT:
        canvas.text(span.label, left + 5, top + 11.4, height=_SMALL, width=right - left - 8)
