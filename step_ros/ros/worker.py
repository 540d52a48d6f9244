"""The one thread that does the work: takes frames from the queue, hands on hypotheses."""

import threading
import time
from collections import deque
from collections.abc import Callable

from step_ros.stream.frame import Frame, FrameProblem
from step_ros.stream.hypothesis import Hypothesis
from step_ros.stream.queue import FrameQueue
from step_ros.stream.recogniser import StreamingRecogniser

# A time in which `processing_ms` and `latency_ms` are looked at, in hypotheses.
RECENT = 100


class Worker:
    """Runs the recogniser beside the executor, so that callbacks only enqueue.

    Args:
        recogniser: Used by this thread alone.
        queue_size: Frames of each camera that may wait.
        on_hypothesis: Called in this thread for each hypothesis.
        on_problem: Called in this thread for each unusable frame.
        on_failure: Called in this thread when the model raises; the windows are emptied and the
            work goes on.
    """

    def __init__(
        self,
        recogniser: StreamingRecogniser,
        *,
        queue_size: int,
        on_hypothesis: Callable[[Hypothesis], None],
        on_problem: Callable[[FrameProblem], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.recogniser = recogniser
        self.queue = FrameQueue(queue_size)
        self.failures = 0
        self.busy_ms: deque[float] = deque(maxlen=RECENT)
        self._on_hypothesis = on_hypothesis
        self._on_problem = on_problem
        self._on_failure = on_failure
        self._thread = threading.Thread(target=self._work, name='step_ros worker', daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch at hand, drop what waits, and end."""
        self.queue.close()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while frames := self.queue.take():
            self._turn(frames)

    def _turn(self, frames: list[Frame]) -> None:
        started = time.monotonic_ns()
        try:
            hypotheses = self.recogniser.process(frames)
        except Exception as error:  # whatever the model raises must not end perception silently
            self.failures += 1
            self.recogniser.reset()
            self._on_failure(error)
            return
        for problem in self.recogniser.problems:
            self._on_problem(problem)
        for hypothesis in hypotheses:
            self._on_hypothesis(hypothesis)
        if hypotheses:
            self.busy_ms.append((time.monotonic_ns() - started) / 1e6)
