# SPDX-License-Identifier: Apache-2.0
"""The two threads between the cameras' callbacks and the publishers.

    executor's thread      worker's thread            publisher's thread
    Worker.put_frame  -->  Worker: encode, heads  --> PublisherThread: make and send messages
              (FrameQueue)                    (PublisherThread.post)

Messages are made and sent in Python. In a thread of its own, that runs while the worker's compiled
code leaves Python's lock free.
"""

import threading
from collections.abc import Callable
from queue import Queue

from step_ros.images.errors import FrameError
from step_ros.streaming.frame import Frame, FrameProblem, GridFrame
from step_ros.streaming.frame_queue import Batch, FrameQueue
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.recogniser import StreamingRecogniser

# Jobs that may wait for the publisher. When they are full, `post` blocks the worker, its queue
# fills up and load shedding drops frames: memory stays bounded.
MAX_WAITING_JOBS = 8


class Worker:
    """Runs the recogniser in a thread of its own; callbacks only place and load frames.

    Args:
        recogniser: The recogniser; its windows belong to the worker's thread.
        queue_size: Grid frames of each camera that may wait.
        on_batch: Called in the worker's thread with the grid frames of each batch and their
            hypotheses.
        on_problem: Called for each unusable frame, in the thread that calls `put_frame`.
        on_failure: Called in the worker's thread if the model raises; the windows restart and
            the worker goes on.
        on_crash: Called in the worker's thread if anything else raises; the worker has ended.

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
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current batch, drop all waiting frames, and end the thread."""
        self.queue.close()
        if self._thread.is_alive():
            self._thread.join()

    def put_frame(self, frame: Frame) -> None:
        """Place a frame from a callback; load and enqueue it if it is on the grid."""
        try:
            self.queue.enqueue(frame)
        except FrameError as error:
            self._report(frame.camera, error)

    def refuse(self, camera: str, error: FrameError) -> None:
        """Count and report a message that is no frame, from a callback."""
        self.recogniser.prepare(camera).refuse(error.cause)
        self._report(camera, error)

    def recognise_batch(self, batch: Batch) -> None:
        """Recognise a batch and hand its hypotheses on, in the calling thread."""
        try:
            hypotheses = self.recogniser.recognise(batch.frames, newest_only=batch.newest_only)
        except Exception as error:  # any error of the model: perception must go on
            self.failures += 1
            self.queue.restart()
            self._on_failure(error)
            return
        self._on_batch(batch.frames, hypotheses)

    def _report(self, camera: str, error: FrameError) -> None:
        self._on_problem(FrameProblem(camera=camera, cause=error.cause, detail=str(error)))

    def _work(self) -> None:
        try:
            while batch := self.queue.next_batch():
                self.recognise_batch(batch)
        except Exception as error:  # a thread that dies silently would go unnoticed
            self.queue.close()
            self._on_crash(error)


class PublisherThread:
    """Runs jobs in order, in a thread of its own, while the worker encodes the next frames.

    Args:
        on_crash: Called in this thread if a job raises; later jobs are dropped.
    """

    def __init__(self, *, on_crash: Callable[[Exception], None]) -> None:
        self._on_crash = on_crash
        self._jobs: Queue[Callable[[], None] | None] = Queue(MAX_WAITING_JOBS)
        self._thread = threading.Thread(target=self._work, name='step_ros publisher', daemon=True)
        self._thread.start()

    def post(self, job: Callable[[], None]) -> None:
        """Append a job; block while `MAX_WAITING_JOBS` wait."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Run the waiting jobs and end the thread; post nothing afterwards."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                job()
        except Exception as error:  # a thread that dies silently would go unnoticed
            self._on_crash(error)
            # Drop the jobs until `stop`: `post` must not block the worker for ever.
            while self._jobs.get() is not None:
                pass
