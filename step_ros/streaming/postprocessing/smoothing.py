"""Exponential smoothing of scores over time, for each camera and task."""

import math
from dataclasses import replace

import numpy as np

from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis

# ---- Whether one hypothesis of a camera goes on where the last one was.


class Continuity:
    """Remembers the last hypothesis of each camera, and notices where the stream broke off.

    It did where time jumped back, and where the window was begun anew: then its oldest frame is
    newer than all that was seen before. A window of one frame never reaches back, so that a time
    no longer than `max_gap_ns` goes on as well.

    Args:
        max_gap_ns: Longest time between two grid frames of one window, as the recogniser has it.
    """

    def __init__(self, max_gap_ns: int) -> None:
        self._max_gap_ns = max_gap_ns
        self._last_ns: dict[str, int] = {}

    def take(self, hypothesis: Hypothesis) -> bool:
        """Take note of a hypothesis; say whether it follows on the last one of its camera."""
        last_ns = self._last_ns.get(hypothesis.camera)
        self._last_ns[hypothesis.camera] = hypothesis.stamp_ns
        if last_ns is None:
            return False
        passed_ns = hypothesis.stamp_ns - last_ns
        reaches_back = hypothesis.window_start_ns <= last_ns
        return passed_ns >= 0 and (reaches_back or passed_ns <= self._max_gap_ns)

    def forget(self, camera: str) -> None:
        """Let the next hypothesis of a camera be its first."""
        self._last_ns.pop(camera, None)


def check_time_constant(seconds: float) -> float:
    """Return a time constant.

    Raises:
        ValueError: It is negative or no finite number.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f'smoothing of {seconds} s; expected a time constant of 0 (off) or more')
    return seconds


class ScoreSmoother:
    """Moves scores towards those of the newest window: `s += (1 - exp(-dt / tau)) (x - s)`.

    The time passed `dt` is that of the stamps, so that a lost frame does no harm. After a jump or
    gap scores begin anew. Order evidence is the newest window's own, unsmoothed.

    Args:
        time_constant: `tau` in seconds; 0 leaves scores as they are.
        max_gap_ns: As the recogniser has it.

    Raises:
        ValueError: The time constant is negative or no finite number.
    """

    def __init__(self, time_constant: float, *, max_gap_ns: int) -> None:
        self._time_constant = check_time_constant(time_constant)
        self._continuity = Continuity(max_gap_ns)
        self._last: dict[str, Hypothesis] = {}

    @property
    def time_constant(self) -> float:
        """Seconds; may be changed at any time and holds from the next hypothesis on."""
        return self._time_constant

    @time_constant.setter
    def time_constant(self, seconds: float) -> None:
        self._time_constant = check_time_constant(seconds)

    def smooth(self, hypothesis: Hypothesis) -> Hypothesis:
        """Return the hypothesis with smoothed scores."""
        before = self._last.get(hypothesis.camera)
        if self._continuity.take(hypothesis) and before is not None and self._time_constant > 0:
            passed = (hypothesis.stamp_ns - before.stamp_ns) / 1e9
            share = -math.expm1(-passed / self._time_constant)
            smoothed_k = {task.spec.name: task.scores_k for task in before.tasks}
            tasks = [
                _moved(task, smoothed_k.get(task.spec.name), share) for task in hypothesis.tasks
            ]
            hypothesis = replace(hypothesis, tasks=tuple(tasks))
        self._last[hypothesis.camera] = hypothesis
        return hypothesis

    def reset(self) -> None:
        """Forget all scores."""
        for camera in self._last:
            self._continuity.forget(camera)
        self._last.clear()


def _moved(task: TaskHypothesis, before_k: np.ndarray | None, share: float) -> TaskHypothesis:
    # A task that was not answered before has nothing to be smoothed with.
    if before_k is None:
        return task
    return replace(task, scores_k=before_k + share * (task.scores_k - before_k))
