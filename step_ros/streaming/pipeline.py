"""From the recogniser's hypotheses to what is told: fused, smoothed, with events."""

import threading
from dataclasses import dataclass, replace

from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.postprocessing.events import Event, EventDetector
from step_ros.streaming.postprocessing.fusion import CameraFusion
from step_ros.streaming.postprocessing.smoothing import ScoreSmoother
from step_ros.streaming.settings import StreamSettings


@dataclass(frozen=True, kw_only=True)
class PostprocessedHypothesis:
    """What is told about one window.

    Attributes:
        hypothesis: The hypothesis, fused and smoothed.
        events: What it began or ended, in order.
        open_events: What is open on its camera after it.
    """

    hypothesis: Hypothesis
    events: list[Event]
    open_events: list[Event]


class Postprocessor:
    """Fuses, smooths and detects events; settings may be changed while it works.

    Settings are changed in one thread, hypotheses come in another.

    Args:
        settings: Smoothing and events.
        max_gap_ns: As the recogniser has it.
        fusion: Makes one view of all cameras; None leaves each by itself.
        active_tasks: The tasks that are told; None for all.
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
        """Go on with other settings, from the next hypothesis on."""
        with self._lock:
            self._smoother.time_constant = settings.smoothing
            self._detector.settings = settings.events()
            self._active_tasks = active_tasks

    def update(self, hypothesis: Hypothesis) -> list[PostprocessedHypothesis]:
        """Take a camera's hypothesis; return what is to be told, which may be nothing."""
        with self._lock:
            views = [hypothesis] if self._fusion is None else self._fusion.update(hypothesis)
            return [self._answer(view) for view in views]

    def open_events(self) -> list[Event]:
        """Return what is open on all cameras."""
        with self._lock:
            return self._detector.open_events()

    def close(self, camera: str | None = None) -> list[Event]:
        """End what is open, on one camera or on all."""
        with self._lock:
            return self._detector.close(camera)

    def _answer(self, hypothesis: Hypothesis) -> PostprocessedHypothesis:
        smooth = self._smoother.smooth(hypothesis)
        if self._active_tasks is not None:
            active = [task for task in smooth.tasks if task.spec.name in self._active_tasks]
            smooth = replace(smooth, tasks=tuple(active))
        return PostprocessedHypothesis(
            hypothesis=smooth,
            events=self._detector.update(smooth),
            open_events=self._detector.open_events(smooth.camera),
        )
