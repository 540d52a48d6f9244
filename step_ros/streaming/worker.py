"""The one thread that does the work: takes grid frames from the queue, hands on hypotheses."""

import threading
from collections.abc import Callable
from queue import Queue

from step_ros.images.errors import FrameError
from step_ros.streaming.frame import Frame, FrameProblem, GridFrame
from step_ros.streaming.frame_queue import Batch, FrameQueue
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.recogniser import StreamingRecogniser


class Worker:
    """Runs the recogniser beside the executor, whose callbacks place and convert frames alone.

    Args:
        recogniser: Its windows are this thread's alone.
        queue_size: Grid frames of each camera that may wait.
        on_batch: Called in this thread with the grid frames of each turn and the hypotheses that
            they gave.
        on_problem: Called for each unusable frame, in the thread that brings it.
        on_failure: Called in this thread when the model raises; the windows begin anew and the
            work goes on.
        on_crash: Called in this thread when anything else raises; then the worker has ended.

    Attributes:
        failures: How often the model has raised.
    """

    def __init__(
        self,
        recogniser: StreamingRecogniser,
        *,
        queue_size: int,
        on_batch: Callable[[list[GridFrame], list[Hypothesis]], None],
        on_problem: Callable[[FrameProblem], None],
        on_failure: Callable[[Exception], None],
        on_crash: Callable[[Exception], None],
    ) -> None:
        self.recogniser = recogniser
        self.queue = FrameQueue(
            recogniser.prepare,
            capacity=queue_size,
            frames=recogniser.bundle.spec.frames,
            frame_period_ns=recogniser.settings.frame_period_ns,
            timing=recogniser.timing,
        )
        self.failures = 0
        self._on_batch = on_batch
        self._on_problem = on_problem
        self._on_failure = on_failure
        self._on_crash = on_crash
        self._thread = threading.Thread(target=self._work, name='step_ros worker', daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch at hand, drop what waits, and end."""
        self.queue.close()
        if self._thread.is_alive():
            self._thread.join()

    def put(self, frame: Frame) -> None:
        """Take a frame from the executor's thread."""
        try:
            self.queue.put(frame)
        except FrameError as error:
            self._report(frame.camera, error)

    def refuse(self, camera: str, error: FrameError) -> None:
        """Count a message that is no frame, from the executor's thread."""
        self.recogniser.prepare(camera).refuse(error.cause)
        self._report(camera, error)

    def _report(self, camera: str, error: FrameError) -> None:
        self._on_problem(FrameProblem(camera=camera, cause=error.cause, detail=str(error)))

    def _work(self) -> None:
        try:
            while batch := self.queue.take():
                self._turn(batch)
        except Exception as error:  # nobody would notice a thread that ends
            self.queue.close()
            self._on_crash(error)

    def _turn(self, batch: Batch) -> None:
        try:
            hypotheses = self.recogniser.recognise(batch.frames, newest_only=batch.newest_only)
        except Exception as error:  # whatever the model raises must not end perception silently
            self.failures += 1
            self.queue.restart()
            self._on_failure(error)
            return
        self._on_batch(batch.frames, hypotheses)


# ---- The thread that says what the worker found, while the worker looks at the next frames.

# Turns of the worker that may wait to be told; then it waits, too, and frames are left out.
WAITING = 8


class PublisherThread:
    """Does what it is told, in order, in a thread of its own.

    Messages are made and sent in Python, which the worker's compiled passes leave free.

    Args:
        on_crash: Called in this thread when a job raises; what comes later is not done.
    """

    def __init__(self, *, on_crash: Callable[[Exception], None]) -> None:
        self._on_crash = on_crash
        self._jobs: Queue[Callable[[], None] | None] = Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name='step_ros teller', daemon=True)
        self._thread.start()

    def post(self, job: Callable[[], None]) -> None:
        """Let something be done; waits where too much waits already."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Do what waits, and end; nothing may be posted afterwards."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                job()
        except Exception as error:  # nobody would notice a thread that ends
            self._on_crash(error)
            # Whoever posts until all is stopped must not wait for ever.
            while self._jobs.get() is not None:
                pass
