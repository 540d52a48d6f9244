# SPDX-License-Identifier: Apache-2.0
"""The queue between the cameras' callbacks and the one worker: grid frames, ready to encode.

    callbacks' thread                                 worker's thread
    enqueue: place -> admit -> load -> append  ==>    next_batch: shed load -> take frames

A frame off the grid never waits: `enqueue` counts it and returns. Pixels are converted in the
callbacks' thread and outside the lock, so that the worker goes on meanwhile. Each frame is counted
once: received = used + off grid + waiting + dropped, by cause.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from step_ros.streaming.camera_state import CameraState, frames_used
from step_ros.streaming.frame import Frame, GridFrame
from step_ros.streaming.grid import Placement
from step_ros.streaming.load_shedding import OVERLOAD, RESTART, CameraBacklog, LoadShedder
from step_ros.streaming.timing import FrameTiming


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Frames for the worker to recognise next.

    Attributes:
        frames: At least one; in order for each camera.
        newest_only: Whether to run the heads on each camera's newest window only.
    """

    frames: list[GridFrame]
    newest_only: bool


class FrameQueue:
    """Grid frames that wait for the worker; a `LoadShedder` drops whole windows of them.

    One thread enqueues, another takes batches.

    Args:
        find_state: Returns the state of a camera by its name.
        capacity: Grid frames of each camera that may wait.
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two grid frames.
        timing: What a grid frame costs.

    Raises:
        ValueError: `capacity` is less than 1.
    """

    def __init__(
        self,
        find_state: Callable[[str], CameraState],
        *,
        capacity: int,
        frames: int,
        frame_period_ns: int,
        timing: FrameTiming,
    ) -> None:
        if capacity < 1:
            raise ValueError(f'capacity={capacity}; expected at least 1')
        self._find_state = find_state
        self._shedder = LoadShedder(
            capacity=capacity, frames=frames, frame_period_ns=frame_period_ns, timing=timing
        )
        self._ready = threading.Condition()
        self._closed = False

    def enqueue(self, frame: Frame) -> None:
        """Place a frame; if it is on the grid and its camera on shift, load and append it.

        The call never waits for the worker.

        Raises:
            FrameError: The frame cannot be used; it is counted.
        """
        with self._ready:
            if self._closed:
                return
            backlog = self._backlog(frame.camera)
            placed = backlog.state.place(frame)
            if placed is None:
                return
            if not self._shedder.admit_frame(backlog, frame.received_ns):
                backlog.state.leave_out(frame, *placed, cause=OVERLOAD)
                return
            if backlog.restart_cause:
                backlog.restart_cause = ''
                backlog.state.grid.reset()
                placed = Placement.START, 0
        # Load outside the lock, so that the worker goes on while pixels are converted.
        loaded = backlog.state.load(frame, *placed)
        with self._ready:
            if backlog.restart_cause:
                # The backlog was dropped while this frame was loading. It belongs to the dropped
                # window, and appending it would leave a hole before the next frame.
                backlog.state.counts[backlog.restart_cause] += 1
            elif not self._closed:
                backlog.append_frame(loaded)
                self._ready.notify()

    def next_batch(self, *, wait: bool = True) -> Batch | None:
        """Take the oldest frames of each camera that has waiting frames.

        Args:
            wait: Whether to wait for frames.

        Returns:
            The batch; None once the queue is closed, or if no frame waits and `wait` is false.
        """
        with self._ready:
            while not self._closed:
                # Shedding load may drop the last waiting frame, hence the second check.
                if self._any_waiting():
                    self._shedder.shed_load()
                if self._any_waiting():
                    frames = self._shedder.next_frames()
                    return Batch(frames=frames, newest_only=self._shedder.newest_only)
                if not wait:
                    break
                self._ready.wait()
            return None

    def restart(self) -> None:
        """Drop all waiting frames and restart every window: the model failed and lost frames."""
        with self._ready:
            for backlog in self._shedder.backlogs.values():
                backlog.drop_frames(RESTART)

    def close(self) -> None:
        """Drop all waiting frames, accept no more, and wake the worker to end."""
        with self._ready:
            self._closed = True
            for backlog in self._shedder.backlogs.values():
                backlog.waiting.clear()
            self._ready.notify_all()

    def counts(self, camera: str) -> dict[str, int]:
        """Return a camera's counters at one moment, with the number of frames `waiting`.

        Frames that the worker has taken and not yet put into a window count as waiting.
        """
        with self._ready:
            backlog = self._backlog(camera)
            counts = dict(backlog.state.counts)
            in_work = backlog.frames_taken - frames_used(counts) - counts.get('failed', 0)
            return {**counts, 'waiting': len(backlog.waiting) + in_work}

    def serves(self, camera: str) -> bool:
        """Return whether this camera is on shift, so that new frames are admitted."""
        with self._ready:
            return self._backlog(camera).on_shift

    def interval_ms(self) -> float:
        """Return the time between two grid frames of all cameras that stream."""
        with self._ready:
            return self._shedder.interval_ms()

    def overloaded(self, now_ns: int) -> bool:
        """Return whether frames or hypotheses were dropped recently, or soon will be.

        Args:
            now_ns: The time by the clock of `Frame.received_ns`.
        """
        with self._ready:
            return self._shedder.overloaded(now_ns)

    def _any_waiting(self) -> bool:
        return any(backlog.waiting for backlog in self._shedder.backlogs.values())

    def _backlog(self, camera: str) -> CameraBacklog:
        backlog = self._shedder.backlogs.get(camera)
        if backlog is None:
            backlog = CameraBacklog(state=self._find_state(camera))
            self._shedder.backlogs[camera] = backlog
        return backlog
