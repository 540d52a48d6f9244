"""The queue between the cameras' callbacks and the one worker: grid frames, ready to encode.

A frame that is not on the grid never waits: it is counted where it arrives.
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
    """What the worker does next.

    Attributes:
        frames: At least one; in order for each camera.
        newest_only: Whether to decide on each camera's newest window alone.
    """

    frames: list[GridFrame]
    newest_only: bool


class FrameQueue:
    """Grid frames waiting for the worker; `LoadShedder` drops whole windows.

    One thread puts, another takes.

    Args:
        stream: Gives a camera's stream.
        capacity: Grid frames of each camera that may wait.
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two grid frames.
        timing: What a grid frame costs.

    Raises:
        ValueError: `capacity` is less than 1.
    """

    def __init__(
        self,
        stream: Callable[[str], CameraState],
        *,
        capacity: int,
        frames: int,
        frame_period_ns: int,
        timing: FrameTiming,
    ) -> None:
        if capacity < 1:
            raise ValueError(f'capacity={capacity}; expected at least 1')
        self._stream = stream
        self._turns = LoadShedder(
            capacity=capacity, frames=frames, frame_period_ns=frame_period_ns, timing=timing
        )
        self._ready = threading.Condition()
        self._closed = False

    def put(self, frame: Frame) -> None:
        """Place a frame; if it is on the grid and its camera is served, load it and let it wait.

        Never waits for the worker.

        Raises:
            FrameError: It cannot be used; it is counted.
        """
        with self._ready:
            if self._closed:
                return
            line = self._line(frame.camera)
            placed = line.stream.place(frame)
            if placed is None:
                return
            if not self._turns.accepts(line, frame.received_ns):
                line.stream.leave_out(frame, *placed, cause=OVERLOAD)
                return
            if line.restart:
                line.restart = ''
                line.stream.grid.reset()
                placed = Placement.START, 0
        # The worker goes on while pixels are converted.
        ready = line.stream.load(frame, *placed)
        with self._ready:
            if line.restart:  # dropped with what waited, in the meantime
                line.stream.counts[line.restart] += 1
            elif not self._closed:
                line.accept(ready)
                self._ready.notify()

    def take(self, *, wait: bool = True) -> Batch | None:
        """Take some frames of each camera of which some wait.

        Args:
            wait: Whether to wait for frames; None if not and there are none.

        Returns:
            None once the queue is closed.
        """
        with self._ready:
            while not self._closed:
                if self._waits():
                    self._turns.relieve()
                if self._waits():
                    frames = self._turns.take()
                    return Batch(frames=frames, newest_only=self._turns.newest_only)
                if not wait:
                    break
                self._ready.wait()
            return None

    def restart(self) -> None:
        """Drop all that waits and begin every window anew: the model failed and lost frames."""
        with self._ready:
            for line in self._turns.lines.values():
                line.drop(RESTART)

    def close(self) -> None:
        """Let the worker go and take no more frames."""
        with self._ready:
            self._closed = True
            for line in self._turns.lines.values():
                line.waiting.clear()
            self._ready.notify_all()

    def counts(self, camera: str) -> dict[str, int]:
        """Return a camera's counters at one moment, and how many frames are `waiting`.

        Those that the worker has in hand are waiting, too.
        """
        with self._ready:
            line = self._line(camera)
            counts = dict(line.stream.counts)
            in_hand = line.taken - frames_used(counts) - counts.get('failed', 0)
            return {**counts, 'waiting': len(line.waiting) + in_hand}

    def serves(self, camera: str) -> bool:
        """Whether it is this camera's turn."""
        with self._ready:
            return self._line(camera).open

    def interval_ms(self) -> float:
        """Return the time between two grid frames of all cameras that stream."""
        with self._ready:
            return self._turns.interval_ms()

    def overloaded(self, now_ns: int) -> bool:
        """Whether frames or hypotheses were left out of late, by the clock of `received_ns`."""
        with self._ready:
            return self._turns.overloaded(now_ns)

    def _waits(self) -> bool:
        return any(line.waiting for line in self._turns.lines.values())

    def _line(self, camera: str) -> CameraBacklog:
        line = self._turns.lines.get(camera)
        if line is None:
            line = self._turns.lines[camera] = CameraBacklog(stream=self._stream(camera))
        return line
