"""A bounded queue between the cameras' callbacks and the one worker."""

import threading
from collections import Counter, deque

from step_ros.stream.frame import Frame


class FrameQueue:
    """Frames waiting for the worker, bounded for each camera; when full, the oldest is dropped.

    Args:
        capacity: Frames that may wait for each camera.

    Raises:
        ValueError: `capacity` is less than 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f'capacity={capacity}; expected at least 1')
        self._capacity = capacity
        self._waiting: dict[str, deque[Frame]] = {}
        self._ready = threading.Condition()
        self._closed = False
        self.dropped: Counter[str] = Counter()

    def put(self, frame: Frame) -> None:
        """Add a frame, never blocking; count a frame that had to make room."""
        with self._ready:
            if self._closed:
                return
            waiting = self._waiting.setdefault(frame.camera, deque())
            if len(waiting) == self._capacity:
                waiting.popleft()
                self.dropped[frame.camera] += 1
            waiting.append(frame)
            self._ready.notify()

    def take(self) -> list[Frame]:
        """Wait for frames and take all of them, in order for each camera; empty once closed."""
        with self._ready:
            self._ready.wait_for(lambda: self._closed or any(self._waiting.values()))
            if self._closed:
                return []
            frames = [frame for waiting in self._waiting.values() for frame in waiting]
            for waiting in self._waiting.values():
                waiting.clear()
            return frames

    def close(self) -> None:
        """Let the worker go and take no more frames."""
        with self._ready:
            self._closed = True
            self._waiting.clear()
            self._ready.notify_all()
