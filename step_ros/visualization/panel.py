# SPDX-License-Identifier: Apache-2.0
"""The panel below a frame: a header, a cell for each task, and the timeline of events.

All lengths are in units of the canvas (`canvas.Canvas`). A panel of two tasks, side by side:

    camera                                      window 1.2 s   latency 12 ms
    task               order 0.50 [==  ]    task               order 0.10 [    ]
    [best label ========       0.60]        [best label ===========    0.80]
    [vs counterpart ===        0.30]        [no counterpart                ]
    [next label =              0.10]        [next label =              0.10]
    task      [      ENDED EVENT         OPEN EVENT]
    task      [  ENDED EVENT                       ]
              -20 s      -15 s      -10 s       now
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

_BEST: Colour = (38, 98, 168)
_COUNTERPART: Colour = (150, 92, 18)
_OTHER: Colour = (78, 86, 100)
_ORDER: Colour = (139, 96, 212)
_OPEN: Colour = (28, 138, 84)
_ENDED: Colour = (58, 92, 82)
_START_EDGE: Colour = (120, 220, 160)

_MARGIN = 8.0
# Heights of capital letters.
_NAME, _TEXT, _SMALL, _TINY = 9.2, 8.6, 7.4, 6.4

_HEADER = 22.0

# A cell: its title, its rows with bars, and the gap below them.
_NARROWEST_CELL = 200.0
_TITLE = 20.0
_ROW = 19.0
_BAR = 16.0
_BELOW_CELL = 8.0
# Width and height of the gauge of the order evidence.
_GAUGE = (34.0, 6.0)

# The timeline: a lane with a name for each task, and the axis below the lanes.
_LANE = 18.0
_LANE_BAR = 15.0
_LANE_NAME = 58.0
_AXIS = 20.0
# A narrower event shows no label.
_SHORTEST_WITH_TEXT = 24.0

# The timeline keeps at most this many events of a task.
_MOST_SPANS = 64


@dataclass(kw_only=True)
class Span:
    """An event on the timeline: a label that started and may have ended.

    Attributes:
        label: The label.
        start_ns: Stamp of the event's start.
        end_ns: Stamp of the event's end; None while the event is open.
    """

    label: str
    start_ns: int
    end_ns: int | None = None


class EventTimeline:
    """The recent events of one camera, by task, in bounded memory.

    Args:
        length_ns: Length of the timeline.
    """

    def __init__(self, length_ns: int) -> None:
        self.length_ns = length_ns
        self._spans: dict[str, deque[Span]] = {}

    def clear(self) -> None:
        """Remove all events."""
        self._spans.clear()

    def add(self, event: Event) -> None:
        """Add a START or END event; an END without a known START is ignored."""
        spans = self._spans.setdefault(event.task, deque(maxlen=_MOST_SPANS))
        if event.type == EventType.START:
            spans.append(Span(label=event.label, start_ns=event.start_ns))
        elif spans and spans[-1].end_ns is None and spans[-1].start_ns == event.start_ns:
            spans[-1].end_ns = event.stamp_ns

    def spans(self, task: str, now_ns: int) -> Sequence[Span]:
        """Return the visible events of a task, oldest first, and remove older ones."""
        spans = self._spans.get(task)
        if spans is None:
            return ()
        begin_ns = now_ns - self.length_ns
        while spans and spans[0].end_ns is not None and spans[0].end_ns < begin_ns:
            spans.popleft()
        return tuple(spans)

    def open_label(self, task: str) -> str:
        """Return the label of the task's open event; empty if no event is open."""
        spans = self._spans.get(task)
        return spans[-1].label if spans and spans[-1].end_ns is None else ''


class Panel:
    """Draws the hypothesis and the events of one camera.

    Its height depends on its width alone, not on its content.

    Args:
        tasks: The tasks, in the order in which they are drawn.
        labels: Number of labels of each task, not counting the counterpart of the best.
    """

    def __init__(self, tasks: Sequence[TaskSpec], *, labels: int) -> None:
        self._tasks = tuple(tasks)
        self._labels = labels

    def height(self, width: float) -> float:
        """Return the panel's height at a width."""
        return self._cells_height(width) + len(self._tasks) * _LANE + _AXIS

    def draw(
        self,
        canvas: Canvas,
        *,
        camera: str,
        facts: Sequence[str],
        hypotheses: Mapping[str, TaskHypothesis],
        stale: bool,
        timeline: EventTimeline,
        now_ns: int | None,
    ) -> None:
        """Draw the panel.

        Args:
            canvas: The canvas; the panel begins at its upper left corner.
            camera: Text on the left of the header.
            facts: Texts on the right of the header.
            hypotheses: The hypothesis of each task; tasks may be missing.
            stale: Whether the hypotheses are old; old ones are drawn grey.
            timeline: The events.
            now_ns: Stamp at the right end of the timeline; None while no stamp is known.
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
            hypothesis = hypotheses.get(spec.name)
            self._draw_title(canvas, left, top, width, spec.name, hypothesis)
            self._draw_bars(canvas, left, top + _TITLE, width, hypothesis, stale=stale)
        self._draw_timeline(canvas, self._cells_height(canvas.width), timeline, now_ns)

    @property
    def _cell_height(self) -> float:
        return _TITLE + (self._labels + 1) * _ROW + _BELOW_CELL

    def _cells_height(self, width: float) -> float:
        rows = -(-len(self._tasks) // self._columns(width))
        return _HEADER + rows * self._cell_height

    def _columns(self, width: float) -> int:
        """Return the number of cells in a row, for the fewest rows and the most equal ones."""
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
        hypothesis: TaskHypothesis | None,
    ) -> None:
        room = width
        if hypothesis is not None and not isnan(hypothesis.order_evidence):
            gauge_width, gauge_height = _GAUGE
            gauge = left + width - gauge_width
            canvas.bar(gauge, top + 7, gauge_width, gauge_height, TRACK)
            filled = gauge_width * hypothesis.order_evidence
            canvas.bar(gauge, top + 7, filled, gauge_height, _ORDER)
            text = f'order {hypothesis.order_evidence:.2f}'
            taken = canvas.text(
                text, gauge - 6, top + 14, height=_SMALL, colour=GREY, align='right'
            )
            room -= gauge_width + 6 + taken + _MARGIN
        canvas.text(name, left, top + 14, height=_TEXT, width=room)

    def _draw_bars(
        self,
        canvas: Canvas,
        left: float,
        top: float,
        width: float,
        hypothesis: TaskHypothesis | None,
        *,
        stale: bool,
    ) -> None:
        """Draw bars for the best label, its counterpart and the next best labels."""
        rows: list[tuple[str, float | None, Colour]] = []
        if hypothesis is not None:
            best, counterpart = hypothesis.label, hypothesis.counterpart
            rows.append((best, hypothesis.score_of(best), _BEST))
            if counterpart:
                rows.append((f'vs {counterpart}', hypothesis.score_of(counterpart), _COUNTERPART))
            else:
                rows.append(('no counterpart', None, TRACK))
            others = [
                (label, score, _OTHER)
                for label, score in hypothesis.top(self._labels + 1)[1:]
                if label != counterpart
            ]
            rows += others[: self._labels - 1]
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
    """Return the start and the end of an event on the timeline, from 0 to 1."""
    end_ns = now_ns if span.end_ns is None else min(span.end_ns, now_ns)
    begin = (span.start_ns - now_ns) / length_ns + 1
    end = (end_ns - now_ns) / length_ns + 1
    return min(1.0, max(0.0, begin)), max(0.0, end)


def _draw_span(canvas: Canvas, left: float, right: float, top: float, span: Span) -> None:
    colour = _OPEN if span.end_ns is None else _ENDED
    canvas.bar(left, top, right - left, _LANE_BAR, colour)
    canvas.bar(left, top, min(1.5, right - left), _LANE_BAR, _START_EDGE)
    if right - left >= _SHORTEST_WITH_TEXT:
        canvas.text(span.label, left + 5, top + 11.4, height=_SMALL, width=right - left - 8)
