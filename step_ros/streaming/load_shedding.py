"""Which cameras are served when the machine cannot serve them all.

Time is never skewed: a camera's frames enter its window one after the other, or all that wait of
it are dropped and its window begins anew. So under overload cameras take turns, and at any time as
many are served as the machine can bear. That is judged by what waits, and by what a grid frame
needs and has: the time to encode it, and the time until the next one comes from any camera served.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from step_ros.streaming.camera_state import CameraState
from step_ros.streaming.frame import GridFrame
from step_ros.streaming.timing import FrameTiming

# Causes of frames that are dropped here.
OVERLOAD = 'overload_dropped'
RESTART = 'restart_dropped'

# How many windows of frames a camera is served before another has its turn: filling the window
# costs the first of them.
TURN = 3
# How many windows without a backlog it takes to try to serve a camera more than seems to fit.
TRIAL = 40
# Of that many windows, one at least is decided on, or cameras take turns.
SKIP = 3
# A camera of which no grid frame came for so many frame periods is not waited for.
SILENCE = 10
_ARRIVALS = 16
_MS = 1e-6


@dataclass(kw_only=True)
class CameraBacklog:
    """What waits of one camera, and how it is served.

    Attributes:
        stream: Its grid and counters.
        waiting: Its frames, oldest first.
        arrivals_ns: When its last grid frames came, also those that were left out.
        open: Whether it is its turn: new frames are accepted.
        restart: Why its next frame begins a window; empty if it does not.
        served: Frames accepted since its turn began.
        run: Frames accepted since its window began.
        taken: Frames handed over, ever.
        closed: Rises with each turn that ends: who has the lowest has rested longest.
    """

    stream: CameraState
    waiting: deque[GridFrame] = field(default_factory=deque)
    arrivals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_ARRIVALS))
    open: bool = True
    restart: str = ''
    served: int = 0
    run: int = 0
    taken: int = 0
    closed: int = 0

    def accept(self, frame: GridFrame) -> None:
        """Let a frame wait."""
        self.waiting.append(frame)
        self.served += 1
        self.run = 1 if frame.placement.restarts else self.run + 1

    def drop(self, cause: str) -> None:
        """Drop all that waits, and begin a window with the next frame."""
        self.stream.counts[cause] += len(self.waiting)
        self.waiting.clear()
        self.restart = cause
        self.run = 0


class LoadShedder:
    """Decides for each camera whether its frames are accepted; knows no thread and no clock.

    Args:
        capacity: Grid frames of a camera that may wait once it has filled a window.
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two grid frames.
        timing: What a grid frame costs.

    Attributes:
        lines: By camera.
        newest_only: Whether to decide on each camera's newest window alone: there is a backlog,
            and deciding on all windows takes more time than there is.
    """

    def __init__(
        self, *, capacity: int, frames: int, frame_period_ns: int, timing: FrameTiming
    ) -> None:
        self.lines: dict[str, CameraBacklog] = {}
        self.newest_only = False
        self._capacity, self._frames, self._timing = capacity, frames, timing
        self._period_ns = frame_period_ns
        self._now_ns = 0
        self._shed_ns: int | None = None
        self._behind = False
        self._vacant = False
        self._calm = 0
        self._since_end = 0
        self._order = count(1)

    def accepts(self, line: CameraBacklog, received_ns: int) -> bool:
        """Say whether a grid frame that came just now is accepted; open or close its line."""
        self._now_ns = max(self._now_ns, received_ns)
        if not self._streams(line):
            line.arrivals_ns.clear()  # a pause says nothing about the rate
        line.arrivals_ns.append(received_ns)
        if not line.open and self._may_open(line):
            line.open, line.served, line.run = True, 0, 0
            self._vacant = False
        elif line.open and len(line.waiting) >= self._capacity and line.run >= self._frames:
            # What waits is whole windows: they are finished, and the camera begins anew.
            self._close(line)
        if not line.open:
            self._shed_ns = self._now_ns
        return line.open

    def relieve(self) -> None:
        """End turns that are over, or more than the machine can bear; call it before `take`."""
        longest, served = self._longest, self._served()
        self._behind = longest > self._capacity // 2 or (self._behind and longest > 1)
        if longest > 1:
            self._calm = 0
        if longest > self._capacity // 2:
            self._vacant = False
            while len(served) > 1 and self._least_ms > self.interval_ms(served):
                served.remove(self._end_longest_turn(served))
        elif resting := self._resting():
            self._vacant = self._vacant or self._bears_more(served, resting)
        done = [line for line in served if line.open and line.served >= TURN * self._frames]
        if done and not self._vacant and self._rested(served):
            served.remove(self._end_longest_turn(done))
            self._vacant = True
        self.newest_only = self._behind and (
            self._least_ms <= self.interval_ms(served) < self._timing.cost_ms
        )
        if self.newest_only:
            self._shed_ns = self._now_ns

    def take(self) -> list[GridFrame]:
        """Take the oldest frame of each camera, and more of them while a frame period is not full.

        If answers are to be left out, take all that wait, so that some are.
        """
        most = self._period_ns * _MS / self._timing.encode_ms if self._timing.encode_ms else 0.0
        frames: list[GridFrame] = []
        waiting = [line for line in self.lines.values() if line.waiting]
        while waiting and (not frames or self.newest_only or len(frames) + len(waiting) <= most):
            for line in waiting:
                frames.append(line.waiting.popleft())
                line.taken += 1
            waiting = [line for line in waiting if line.waiting]
        self._calm += len(frames)
        self._since_end += len(frames)
        return frames

    def interval_ms(self, lines: Sequence[CameraBacklog] | None = None) -> float:
        """Return the time between two grid frames of these cameras, or of all that stream."""
        if lines is None:
            lines = [line for line in self.lines.values() if self._streams(line)]
        rate = sum(1 / self._interval_ns(line) for line in lines)
        return _MS / rate if rate else self._period_ns * _MS

    def overloaded(self, now_ns: int) -> bool:
        """Whether frames or hypotheses were left out of late, or soon will be."""
        if self._within(SILENCE, self._shed_ns, now_ns):
            return True
        # Where it is a little too slow, all goes well for a while, again and again.
        comes = self._within(SILENCE, self._now_ns, now_ns)
        again = comes and self._within(TRIAL * self._frames, self._shed_ns, now_ns)
        soon = again or self._longest > self._capacity // 2
        return soon and self._timing.cost_ms > self.interval_ms()

    @property
    def _longest(self) -> int:
        return max((len(line.waiting) for line in self.lines.values()), default=0)

    @property
    def _least_ms(self) -> float:
        return self._timing.encode_ms + self._timing.predict_ms / SKIP

    def _bears_more(
        self, served: Sequence[CameraBacklog], resting: Sequence[CameraBacklog]
    ) -> bool:
        # Frames of more cameras may cost less each, for they share batches: that is found out by
        # trying, now and then.
        trial = 1 if self._lasts(served, resting) else TRIAL
        if self._calm < trial * self._frames * len(served):
            return False
        self._calm = 0
        return True

    def _lasts(self, served: Sequence[CameraBacklog], resting: Sequence[CameraBacklog]) -> bool:
        # Whether one camera more is worth its beginning: what it is too much can wait meanwhile.
        interval_ms = self.interval_ms([*served, _next_of(resting)])
        too_much = 1 - interval_ms / self._least_ms if self._least_ms else 0.0
        return too_much * TURN * self._frames <= self._capacity // 2

    def _rested(self, served: Sequence[CameraBacklog]) -> bool:
        # Whether it is another camera's turn, at the cost of one that is served.
        resting = self._resting()
        if not resting:
            return False
        turns = len(served) if self._lasts(served, resting) else 1
        return self._since_end >= turns * TURN * self._frames

    def _may_open(self, line: CameraBacklog) -> bool:
        resting = self._resting()
        if not resting or line is not _next_of(resting):
            return False
        return self._vacant or not self._served()

    def _close(self, line: CameraBacklog) -> None:
        line.open, line.closed, line.restart = False, next(self._order), OVERLOAD

    def _end_longest_turn(self, served: Sequence[CameraBacklog]) -> CameraBacklog:
        line = max(served, key=lambda each: each.served)
        line.drop(OVERLOAD)
        self._close(line)
        self._since_end = 0
        self._shed_ns = self._now_ns
        return line

    def _served(self) -> list[CameraBacklog]:
        return [
            line
            for line in self.lines.values()
            if line.waiting or (line.open and self._streams(line))
        ]

    def _resting(self) -> list[CameraBacklog]:
        return [
            line
            for line in self.lines.values()
            if not line.open and not line.waiting and self._streams(line)
        ]

    def _streams(self, line: CameraBacklog) -> bool:
        newest_ns = line.arrivals_ns[-1] if line.arrivals_ns else None
        return self._within(SILENCE, newest_ns, self._now_ns)

    def _within(self, periods: int, since_ns: int | None, now_ns: int) -> bool:
        return since_ns is not None and now_ns - since_ns <= periods * self._period_ns

    def _interval_ns(self, line: CameraBacklog) -> float:
        arrivals = line.arrivals_ns
        spent_ns = arrivals[-1] - arrivals[0] if len(arrivals) > 1 else 0
        return spent_ns / (len(arrivals) - 1) if spent_ns > 0 else self._period_ns


def _next_of(resting: Sequence[CameraBacklog]) -> CameraBacklog:
    return min(resting, key=lambda line: line.closed)
