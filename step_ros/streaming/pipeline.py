# SPDX-License-Identifier: Apache-2.0
"""From the recogniser's hypotheses to published ones: fused, smoothed, with events."""

import threading
from dataclasses import dataclass, replace

from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.postprocessing.events import Event, EventDetector
from step_ros.streaming.postprocessing.fusion import CameraFusion
from step_ros.streaming.postprocessing.smoothing import ScoreSmoother
from step_ros.streaming.settings import StreamSettings


@dataclass(frozen=True, kw_only=True)
class PostprocessedHypothesis:
    """A hypothesis to publish, with its events.

    Attributes:
        hypothesis: The hypothesis, fused and smoothed.
        events: The events that it started or ended, in order.
        open_events: The open events of its camera after it.
    """

    hypothesis: Hypothesis
    events: list[Event]
    open_events: list[Event]


class Postprocessor:
    """Fuses and smooths hypotheses and detects events; settings may change while it works.

    One thread may change the settings while another processes hypotheses.

    Args:
        settings: Settings of the smoothing and the events.
        max_gap_ns: Longest time between two grid frames of one window, as in the recogniser.
        fusion: Fuses all cameras into one view; None keeps each camera's own.
        active_tasks: The tasks to publish; None for all.
    """

    def __init__(
        self,
        settings: StreamSettings,
        *,
        max_gap_ns: int,
        fusion: CameraFusion | None = None,
        active_tasks: frozenset[str] | None = None,
    ) -> None:
        self._fusion = fusion
        self._smoother = ScoreSmoother(settings.smoothing, max_gap_ns=max_gap_ns)
        self._detector = EventDetector(settings.events(), max_gap_ns=max_gap_ns)
        self._active_tasks = active_tasks
        self._lock = threading.Lock()

    def change(
        self, settings: StreamSettings, *, active_tasks: frozenset[str] | None = None
    ) -> None:
        """Change the settings from the next hypothesis on."""
        with self._lock:
            self._smoother.time_constant = settings.smoothing
            self._detector.settings = settings.events()
            self._active_tasks = active_tasks

    def process_hypothesis(self, hypothesis: Hypothesis) -> list[PostprocessedHypothesis]:
        """Return the hypotheses to publish after a camera's hypothesis; fusion may give none."""
        with self._lock:
            views = (
                [hypothesis] if self._fusion is None else self._fusion.add_hypothesis(hypothesis)
            )
            return [self._postprocess(view) for view in views]

    def open_events(self) -> list[Event]:
        """Return the open events of all cameras."""
        with self._lock:
            return self._detector.open_events()

    def close(self, camera: str | None = None) -> list[Event]:
        """End the open events of one camera, or of all; return their ends."""
        with self._lock:
            return self._detector.close(camera)

    def _postprocess(self, hypothesis: Hypothesis) -> PostprocessedHypothesis:
        smooth = self._smoother.smooth(hypothesis)
        if self._active_tasks is not None:
            active = [task for task in smooth.tasks if task.spec.name in self._active_tasks]
            smooth = replace(smooth, tasks=tuple(active))
        return PostprocessedHypothesis(
            hypothesis=smooth,
            events=self._detector.add_hypothesis(smooth),
            open_events=self._detector.open_events(smooth.camera),
        )
