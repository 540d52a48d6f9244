# SPDX-License-Identifier: Apache-2.0
"""The overlay: a camera's frame, and below it a panel with the hypothesis and the events.

The panel never covers the frame, because a person's hands are often at its lower edge.
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

# Defaults: labels of each task, and length of the timeline in seconds.
TOP_K = 3
TIMELINE = 20.0
# At this width and height of the image, a unit is a pixel.
_WIDTH, _HEIGHT = 640, 480
# A frame is older than the newest hypothesis by more than this: the clock jumped back.
_JUMP_BACK_NS = NANOSECONDS
# An older hypothesis is drawn grey.
_STALE_NS = NANOSECONDS
# A weight of this many times the even weight is drawn hottest, unless a larger weight occurs.
_HOT = 4.0


class Overlay:
    """Draws the frames, hypotheses and events of one camera, in bounded memory.

    Images of one size give drawings of one size, whatever their content.

    Args:
        camera: Name of the camera.
        tasks: The tasks, in the order in which they are drawn.
        top_k: Number of labels to draw for each task.
        timeline: Length of the timeline in seconds.

    Raises:
        ValueError: There is no task, or a number is not above 0.
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
        """Remove the hypothesis and all events."""
        self._timeline.clear()
        self._hypothesis, self._latency_ns = None, None

    def update(
        self,
        hypothesis: Hypothesis,
        events: Iterable[Event] = (),
        *,
        latency_ns: int | None = None,
    ) -> None:
        """Store a new hypothesis and its events.

        Args:
            hypothesis: The camera's newest hypothesis, or one that several cameras share. If it
                is older than the last one, the clock jumped back, and the overlay resets.
            events: The START and END events of this hypothesis.
            latency_ns: Time from receiving its newest frame to the hypothesis; None to omit it.
        """
        last = self._hypothesis
        if last is not None and hypothesis.stamp_ns < last.stamp_ns:
            self.reset()
        self._hypothesis, self._latency_ns = hypothesis, latency_ns
        self.add_events(events)

    def add_events(self, events: Iterable[Event]) -> None:
        """Add events that come without a hypothesis, for example at deactivation."""
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
            image_hw3: The frame, uint8 RGB. A frame less than 640 pixels wide is enlarged.
            stamp_ns: Stamp of the frame; None for the stamp of the newest hypothesis. A stamp more
                than a second before that hypothesis resets the overlay.
            seen: The part of the frame that the encoder sees (`region.seen_box`); the rest is
                dimmed. None for the whole frame.
            attention: Attention of a head to the frame; None draws no heat map.

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
        # Video codecs need even sizes.
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
            hypotheses={task.spec.name: task for task in hypothesis.tasks} if hypothesis else {},
            stale=age_ns > _STALE_NS,
            timeline=self._timeline,
            now_ns=stamp_ns,
        )
        return drawn_hw3

    def _age_ns(self, stamp_ns: int | None) -> int:
        """Return the age of the hypothesis at a stamp; 0 without either."""
        if self._hypothesis is None or stamp_ns is None:
            return 0
        return stamp_ns - self._hypothesis.stamp_ns

    def _facts(self, stamp_ns: int | None, attention: NewestAttention | None) -> list[str]:
        """Return the texts on the right of the header."""
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
    """Draw the heat map over the part that the encoder sees, and dim the rest."""
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
    """Return a narrow image enlarged to the least width, and other images unchanged."""
    rows, columns = image_hw3.shape[:2]
    if columns >= _WIDTH:
        return image_hw3
    size = (_WIDTH, round(rows * _WIDTH / columns))
    return cv2.resize(image_hw3, size, interpolation=cv2.INTER_LINEAR)
