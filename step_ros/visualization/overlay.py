"""What the model sees and says, drawn: a frame, and a panel of hypotheses and events below it.

The frame stays whole: what a person does happens where a panel would lie.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from step_ros.images.region import Box
from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.postprocessing.events import Event
from step_ros.visualization.attention_map import NewestAttention, draw_attention
from step_ros.visualization.canvas import BACKGROUND, Canvas
from step_ros.visualization.panel import EventTimeline, Panel

# Labels of each task, and seconds of events on the timeline.
TOP_K = 3
TIMELINE = 20.0
# In an image of this width and height a unit is a pixel.
_WIDTH, _HEIGHT = 640, 480
# A frame this much older than the newest hypothesis means that time jumped back.
_JUMP_BACK_NS = NANOSECONDS
# An answer older than that is drawn grey.
_STALE_NS = NANOSECONDS
# A patch that gets this many times its even share is drawn hottest, unless one gets more.
_HOT = 4.0


class Overlay:
    """Draws what the model sees and says of one camera, in bounded memory.

    Images of one size give drawings of one size, whatever there is to say.

    Args:
        camera: Name of the camera.
        tasks: The tasks, in the order in which they are drawn.
        top_k: Labels that are drawn of each.
        timeline: Seconds of events that are drawn.

    Raises:
        ValueError: There is no task, no label or no time to draw.
    """

    def __init__(
        self,
        camera: str,
        tasks: Sequence[TaskSpec],
        *,
        top_k: int = TOP_K,
        timeline: float = TIMELINE,
    ) -> None:
        if not tasks:
            raise ValueError('no task to draw; expected at least one')
        if top_k < 1 or timeline <= 0:
            raise ValueError(f'top_k={top_k}, timeline={timeline}; expected more than 0')
        self.camera = camera
        self._panel = Panel(tasks, labels=min(top_k, max(len(task.labels) for task in tasks)))
        self._timeline = EventTimeline(round(timeline * NANOSECONDS))
        self._hypothesis: Hypothesis | None = None
        self._latency_ns: int | None = None

    def reset(self) -> None:
        """Forget everything, as before the first hypothesis."""
        self._timeline.clear()
        self._hypothesis, self._latency_ns = None, None

    def update(
        self,
        hypothesis: Hypothesis,
        events: Iterable[Event] = (),
        *,
        latency_ns: int | None = None,
    ) -> None:
        """Take a hypothesis and what it brought.

        Args:
            hypothesis: The camera's newest, or one that several cameras share. One that is older
                than the last means that time jumped back, and resets the overlay.
            events: What began and ended with it.
            latency_ns: From receiving its newest frame to its end; None leaves it out.
        """
        last = self._hypothesis
        if last is not None and hypothesis.stamp_ns < last.stamp_ns:
            self.reset()
        self._hypothesis, self._latency_ns = hypothesis, latency_ns
        self.add_events(events)

    def add_events(self, events: Iterable[Event]) -> None:
        """Take events that came without a hypothesis, as on deactivation."""
        for event in events:
            self._timeline.add(event)

    def draw(
        self,
        image_hw3: np.ndarray,
        *,
        stamp_ns: int | None = None,
        seen: Box | None = None,
        attention: NewestAttention | None = None,
    ) -> np.ndarray:
        """Draw a frame and the panel below it.

        Args:
            image_hw3: The frame, uint8 RGB. Less than 640 pixels wide, it is enlarged.
            stamp_ns: Its stamp; None for that of the newest hypothesis. One that is more than a
                second older than that resets the overlay.
            seen: The part of it that the encoder sees (`region.seen_box`), the rest is dimmed;
                None for all of it.
            attention: Where a head looks in it; None draws no heat map.

        Returns:
            The drawing, uint8 RGB, of even height and width.
        """
        if self._hypothesis is not None:
            if stamp_ns is None:
                stamp_ns = self._hypothesis.stamp_ns
            elif stamp_ns < self._hypothesis.stamp_ns - _JUMP_BACK_NS:
                self.reset()
        frame_hw3 = _enlarged(_as_seen(image_hw3, seen, attention))
        height, width = frame_hw3.shape[:2]
        scale = max(1.0, min(height / _HEIGHT, width / _WIDTH))
        below = round(scale * self._panel.height(width / scale))
        # Video codecs want even sizes.
        shape = ((height + below + 1) // 2 * 2, (width + 1) // 2 * 2, 3)
        drawn_hw3 = np.full(shape, BACKGROUND, dtype=np.uint8)
        drawn_hw3[:height, :width] = frame_hw3
        hypothesis, age_ns = self._hypothesis, self._age_ns(stamp_ns)
        name = self.camera
        if hypothesis is not None and hypothesis.camera != name:
            name += f' ({hypothesis.camera})'
        self._panel.draw(
            Canvas(drawn_hw3[height:, :width], scale=scale),
            camera=name,
            facts=self._facts(stamp_ns, attention),
            answers={task.spec.name: task for task in hypothesis.tasks} if hypothesis else {},
            stale=age_ns > _STALE_NS,
            timeline=self._timeline,
            now_ns=stamp_ns,
        )
        return drawn_hw3

    def _age_ns(self, stamp_ns: int | None) -> int:
        if self._hypothesis is None or stamp_ns is None:
            return 0
        return stamp_ns - self._hypothesis.stamp_ns

    def _facts(self, stamp_ns: int | None, attention: NewestAttention | None) -> list[str]:
        hypothesis, age_ns = self._hypothesis, self._age_ns(stamp_ns)
        facts = []
        if stamp_ns is not None:
            facts.append(f'{stamp_ns // NANOSECONDS}.{stamp_ns // 10**6 % 1000:03d} s')
        if hypothesis is None:
            facts.append('the first window fills')
        else:
            window_ns = hypothesis.stamp_ns - hypothesis.window_start_ns
            facts.append(f'window {window_ns / NANOSECONDS:.1f} s')
            if age_ns > _STALE_NS:
                facts.append(f'answer {age_ns / NANOSECONDS:.1f} s old')
            elif self._latency_ns is not None:
                facts.append(f'latency {self._latency_ns / 1e6:.0f} ms')
        if attention is not None:
            facts.append(f'attention: {attention.task}')
        return facts


def _as_seen(
    image_hw3: np.ndarray, seen: Box | None, attention: NewestAttention | None
) -> np.ndarray:
    """Dim what the encoder does not see, and lay the heat map over what it does."""
    whole = (0, 0, image_hw3.shape[0], image_hw3.shape[1])
    box = whole if seen is None else seen
    if attention is not None:
        high = max(float(attention.weights_rc.max()), _HOT * attention.even)
        image_hw3 = draw_attention(
            image_hw3, attention.weights_rc, box=box, low=attention.even, high=high
        )
    if box == whole:
        return image_hw3
    top, left, height, width = box
    part = slice(top, top + height), slice(left, left + width)
    dimmed_hw3 = image_hw3 // 2
    dimmed_hw3[part] = image_hw3[part]
    return dimmed_hw3


def _enlarged(image_hw3: np.ndarray) -> np.ndarray:
    rows, columns = image_hw3.shape[:2]
    if columns >= _WIDTH:
        return image_hw3
    size = (_WIDTH, round(rows * _WIDTH / columns))
    return cv2.resize(image_hw3, size, interpolation=cv2.INTER_LINEAR)
