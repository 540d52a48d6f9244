# SPDX-License-Identifier: Apache-2.0
"""Exponential smoothing of scores over time, for each camera and task.

`Continuity` defines where smoothing and events (`events.py`) start afresh, so that both do so at
the same hypothesis.
"""

import math
from dataclasses import replace

import numpy as np

from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis


def check_time_constant(seconds: float) -> float:
    """Return a valid time constant unchanged.

    Raises:
        ValueError: It is negative or not finite.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f'smoothing of {seconds} s; expected a time constant of 0 (off) or more')
    return seconds


class ScoreSmoother:
    """Moves scores towards those of the newest window: `s += (1 - exp(-dt / tau)) (x - s)`.

    The elapsed time `dt` comes from the stamps, so that a lost frame does not change the pace.
    After a jump or a gap the scores start afresh. Order evidence stays that of the newest window.

    Args:
        time_constant: `tau` in seconds; 0 leaves scores as they are.
        max_gap_ns: Longest time between two grid frames of one window, as in the recogniser.

    Raises:
        ValueError: The time constant is negative or not finite.
    """

    def __init__(self, time_constant: float, *, max_gap_ns: int) -> None:
        self._time_constant = check_time_constant(time_constant)
        self._continuity = Continuity(max_gap_ns)
        self._last: dict[str, Hypothesis] = {}

    @property
    def time_constant(self) -> float:
        """Seconds; may change at any time, with effect from the next hypothesis."""
        return self._time_constant

    @time_constant.setter
    def time_constant(self, seconds: float) -> None:
        self._time_constant = check_time_constant(seconds)

    def smooth(self, hypothesis: Hypothesis) -> Hypothesis:
        """Return the hypothesis with smoothed scores."""
        before = self._last.get(hypothesis.camera)
        continues = self._continuity.add_hypothesis(hypothesis)
        if continues and before is not None and self._time_constant > 0:
            passed = (hypothesis.stamp_ns - before.stamp_ns) / NANOSECONDS
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
    # A task that the last hypothesis did not have starts afresh.
    if before_k is None:
        return task
    return replace(task, scores_k=before_k + share * (task.scores_k - before_k))


class Continuity:
    """Tells whether a camera's hypothesis continues its last one.

    It does not after a jump back in time, nor after a restart of the window. A restarted window
    shares no time with the last one: its oldest frame is newer than the last hypothesis. Windows
    of one frame never share time, so a step of at most `max_gap_ns` continues as well.

        last window        [---------]                [---------]
        next window           [---------]                          [---------]
                           continues                  restarted

    Args:
        max_gap_ns: Longest time between two grid frames of one window, as in the recogniser.
    """

    def __init__(self, max_gap_ns: int) -> None:
        self._max_gap_ns = max_gap_ns
        self._last_ns: dict[str, int] = {}

    def add_hypothesis(self, hypothesis: Hypothesis) -> bool:
        """Record a hypothesis; return whether it continues the last one of its camera."""
        last_ns = self._last_ns.get(hypothesis.camera)
        self._last_ns[hypothesis.camera] = hypothesis.stamp_ns
        if last_ns is None:
            return False
        passed_ns = hypothesis.stamp_ns - last_ns
        reaches_back = hypothesis.window_start_ns <= last_ns
        return passed_ns >= 0 and (reaches_back or passed_ns <= self._max_gap_ns)

    def forget(self, camera: str) -> None:
        """Forget a camera: its next hypothesis continues nothing."""
        self._last_ns.pop(camera, None)
