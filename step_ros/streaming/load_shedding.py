# SPDX-License-Identifier: Apache-2.0
"""Load shedding: which cameras are served when the machine cannot serve them all.

Frames never leave holes in a window: a camera's frames enter its window one after the other, or
its whole backlog is dropped and its window restarts. A window with holes would show an action
faster than it was. So under overload the cameras serve in shifts, and at any time as many cameras
are on shift as the machine can bear:

    camera   its backlog, oldest first
    front    [f7 f8 f9]   on shift  ---.
    side     [s7 s8]      on shift  ---+--> next_frames(): [f7 s7], then perhaps [f8 s8] ...
    wrist    []           resting: new frames are dropped as `overload_dropped`

Three quantities determine which cameras serve:
- the backlog: how many frames of a camera wait;
- the cost of a grid frame: the time to encode it and to run the heads on its window;
- the interval of the served cameras: the time until the next grid frame of any of them arrives.

Frames arrive faster than they are processed when the cost exceeds the interval. Against that, from
mild to severe:
1. `newest_only`: encode every frame, but run the heads on each camera's newest window only.
2. `shed_load` ends shifts until the remaining cameras fit; `admit_frame` starts them again.
3. `admit_frame` ends the shift of a single camera whose backlog is full.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from step_ros.streaming.camera_state import CameraState
from step_ros.streaming.frame import GridFrame
from step_ros.streaming.timing import FrameTiming

# Causes of dropped frames, the keys of their counters.
OVERLOAD = 'overload_dropped'
RESTART = 'restart_dropped'

# Windows of frames that a shift lasts at least, before a resting camera may take over. The first
# window of a shift gives no hypothesis until it is full, so that short shifts waste their frames.
WINDOWS_PER_SHIFT = 3
# Windows of frames without a backlog after which one camera more is tried, although it seems not
# to fit. Frames of more cameras share batches and may cost less each, which only a trial shows;
# but a failed trial drops a backlog, so trials are rare.
WINDOWS_PER_TRIAL = 40
# Under a backlog, one hypothesis in this many windows is enough to keep all cameras on shift.
# Where not even that fits, hypotheses would be too rare, and shifts end instead.
WINDOWS_PER_HYPOTHESIS = 3
# A camera without a grid frame for this many frame periods is silent: nobody waits for it.
SILENT_PERIODS = 10
# Arrivals remembered of each camera, to measure its rate.
_ARRIVALS = 16
_MS = 1e-6  # milliseconds in a nanosecond


@dataclass(kw_only=True)
class CameraBacklog:
    """The waiting frames of one camera, and its shifts.

    Attributes:
        state: The camera's grid and counters.
        waiting: Its frames, oldest first.
        arrivals_ns: When its last grid frames arrived, dropped ones too.
        on_shift: Whether new frames are admitted.
        restart_cause: The cause of dropped frames for which its next frame restarts its window;
            empty if the window goes on.
        frames_of_shift: Frames admitted since its shift started.
        frames_of_run: Frames admitted since its window restarted.
        frames_taken: Frames handed to the worker so far.
        shift_ended: Serial number of the end of its last shift; 0 before the first. The resting
            camera with the lowest number has rested longest.
    """

    state: CameraState
    waiting: deque[GridFrame] = field(default_factory=deque)
    arrivals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_ARRIVALS))
    on_shift: bool = True
    restart_cause: str = ''
    frames_of_shift: int = 0
    frames_of_run: int = 0
    frames_taken: int = 0
    shift_ended: int = 0

    def append_frame(self, frame: GridFrame) -> None:
        """Append an admitted frame."""
        self.waiting.append(frame)
        self.frames_of_shift += 1
        self.frames_of_run = 1 if frame.placement.restarts else self.frames_of_run + 1

    def drop_frames(self, cause: str) -> None:
        """Drop all waiting frames; the next frame restarts the window."""
        self.state.counts[cause] += len(self.waiting)
        self.waiting.clear()
        self.restart_cause = cause
        self.frames_of_run = 0


class LoadShedder:
    """Admits the frames of each camera or drops them; has no threads and reads no clock.

    Args:
        capacity: Grid frames of a camera that may wait once it has filled a window.
        frames: Frames in a window (T).
        frame_period_ns: Nanoseconds between two grid frames.
        timing: What a grid frame costs.

    Attributes:
        backlogs: The backlog of each camera, by name.
        newest_only: Whether to run the heads on each camera's newest window only: there is a
            backlog, and running them on every window takes longer than the interval.
    """

    def __init__(
        self, *, capacity: int, frames: int, frame_period_ns: int, timing: FrameTiming
    ) -> None:
        self.backlogs: dict[str, CameraBacklog] = {}
        self.newest_only = False
        self._capacity, self._frames, self._timing = capacity, frames, timing
        self._period_ns = frame_period_ns
        self._now_ns = 0  # the newest arrival of any camera
        self._shed_ns: int | None = None  # when a frame or hypothesis was last dropped
        self._behind = False  # whether the backlogs have grown and not shrunk since
        self._place_free = False  # whether a resting camera may start a shift
        self._calm_frames = 0  # frames taken since a backlog, or since a camera might join
        self._frames_since_end = 0  # frames taken since a shift was last cut short
        self._serial = count(1)

    def admit_frame(self, backlog: CameraBacklog, received_ns: int) -> bool:
        """Return whether to admit a grid frame that has just arrived; start or end its shift."""
        self._now_ns = max(self._now_ns, received_ns)
        if not self._is_streaming(backlog):
            backlog.arrivals_ns.clear()  # a pause says nothing about the rate
        backlog.arrivals_ns.append(received_ns)
        if not backlog.on_shift and self._may_start_shift(backlog):
            backlog.on_shift, backlog.frames_of_shift, backlog.frames_of_run = True, 0, 0
            self._place_free = False
        elif (
            backlog.on_shift
            and len(backlog.waiting) >= self._capacity
            and backlog.frames_of_run >= self._frames
        ):
            # The backlog is full, and it completes at least one window. It is kept: the worker
            # finishes it, and only then the window restarts. Dropping it instead would lose
            # hypotheses for good where encoding alone is too slow for a single camera.
            self._end_shift(backlog)
        if not backlog.on_shift:
            self._shed_ns = self._now_ns
        return backlog.on_shift

    def shed_load(self) -> None:
        """End shifts that are over, or that the machine cannot bear; call before `next_frames`."""
        longest, served = self._longest_backlog, self._served()
        # Hysteresis: half a queue starts it, an empty one ends it.
        self._behind = longest > self._capacity // 2 or (self._behind and longest > 1)
        if longest > 1:
            self._calm_frames = 0
        if longest > self._capacity // 2:
            self._place_free = False
            # Cut shifts short until the other cameras fit, but keep one of them.
            while len(served) > 1 and self._least_cost_ms > self.interval_ms(served):
                served.remove(self._cut_longest_shift(served))
        elif resting := self._resting():
            self._place_free = self._place_free or self._can_serve_another(served, resting)
        # No place came free by itself: rotate, if a served camera has had its full shift.
        full_shift = WINDOWS_PER_SHIFT * self._frames
        done = [each for each in served if each.on_shift and each.frames_of_shift >= full_shift]
        if done and not self._place_free and self._rotation_due(served):
            served.remove(self._cut_longest_shift(done))
            self._place_free = True
        # Skipping hypotheses helps only where encoding fits and the heads on all windows do not.
        self.newest_only = self._behind and (
            self._least_cost_ms <= self.interval_ms(served) < self._timing.cost_ms
        )
        if self.newest_only:
            self._shed_ns = self._now_ns

    def next_frames(self) -> list[GridFrame]:
        """Take the oldest frame of each camera, then more rounds while they fit a frame period.

        With `newest_only`, take all waiting frames: only then are there older windows to skip.
        """
        most = self._period_ns * _MS / self._timing.encode_ms if self._timing.encode_ms else 0.0
        frames: list[GridFrame] = []
        waiting = [each for each in self.backlogs.values() if each.waiting]
        while waiting and (not frames or self.newest_only or len(frames) + len(waiting) <= most):
            for backlog in waiting:
                frames.append(backlog.waiting.popleft())
                backlog.frames_taken += 1
            waiting = [each for each in waiting if each.waiting]
        self._calm_frames += len(frames)
        self._frames_since_end += len(frames)
        return frames

    def interval_ms(self, backlogs: Sequence[CameraBacklog] | None = None) -> float:
        """Return the time between two grid frames of these cameras, or of all that stream."""
        if backlogs is None:
            backlogs = [each for each in self.backlogs.values() if self._is_streaming(each)]
        # Rates add up, intervals do not: two cameras at 10 Hz give a frame every 50 ms.
        rate = sum(1 / self._camera_interval_ns(each) for each in backlogs)
        return _MS / rate if rate else self._period_ns * _MS

    def overloaded(self, now_ns: int) -> bool:
        """Return whether frames or hypotheses were dropped recently, or soon will be."""
        if self._is_within(SILENT_PERIODS, self._shed_ns, now_ns):
            return True
        # A machine that is slightly too slow drops frames only now and then: the backlog takes
        # long to fill. Report overload between the drops too, or the status would flicker.
        streaming = self._is_within(SILENT_PERIODS, self._now_ns, now_ns)
        again = streaming and self._is_within(
            WINDOWS_PER_TRIAL * self._frames, self._shed_ns, now_ns
        )
        soon = again or self._longest_backlog > self._capacity // 2
        return soon and self._timing.cost_ms > self.interval_ms()

    @property
    def _longest_backlog(self) -> int:
        return max((len(each.waiting) for each in self.backlogs.values()), default=0)

    @property
    def _least_cost_ms(self) -> float:
        """The cost of a grid frame when as many hypotheses are skipped as may be."""
        return self._timing.encode_ms + self._timing.predict_ms / WINDOWS_PER_HYPOTHESIS

    def _can_serve_another(
        self, served: Sequence[CameraBacklog], resting: Sequence[CameraBacklog]
    ) -> bool:
        """Return whether a resting camera may join: after a calm time, a long one for a trial."""
        windows = 1 if self._queue_absorbs_another(served, resting) else WINDOWS_PER_TRIAL
        if self._calm_frames < windows * self._frames * len(served):
            return False
        self._calm_frames = 0
        return True

    def _queue_absorbs_another(
        self, served: Sequence[CameraBacklog], resting: Sequence[CameraBacklog]
    ) -> bool:
        # Admit another camera only if the queue can absorb its overload for the windows it will
        # be served. The overload is the share of frames that arrive and are not processed; they
        # pile up over a shift, and half the queue starts the shedding.
        interval_ms = self.interval_ms([*served, _longest_resting(resting)])
        overload = 1 - interval_ms / self._least_cost_ms if self._least_cost_ms else 0.0
        return overload * WINDOWS_PER_SHIFT * self._frames <= self._capacity // 2

    def _rotation_due(self, served: Sequence[CameraBacklog]) -> bool:
        """Return whether a served camera must give way to a resting one."""
        resting = self._resting()
        if not resting:
            return False
        # If the queue could absorb one camera more, it will join without a rotation as soon as
        # there is no backlog: wait for that, a full shift of every served camera.
        shifts = len(served) if self._queue_absorbs_another(served, resting) else 1
        return self._frames_since_end >= shifts * WINDOWS_PER_SHIFT * self._frames

    def _may_start_shift(self, backlog: CameraBacklog) -> bool:
        resting = self._resting()
        if not resting or backlog is not _longest_resting(resting):
            return False
        return self._place_free or not self._served()

    def _end_shift(self, backlog: CameraBacklog) -> None:
        backlog.on_shift, backlog.shift_ended = False, next(self._serial)
        backlog.restart_cause = OVERLOAD

    def _cut_longest_shift(self, served: Sequence[CameraBacklog]) -> CameraBacklog:
        """End the longest shift and drop its backlog; return it."""
        backlog = max(served, key=lambda each: each.frames_of_shift)
        backlog.drop_frames(OVERLOAD)
        self._end_shift(backlog)
        self._frames_since_end = 0
        self._shed_ns = self._now_ns
        return backlog

    def _served(self) -> list[CameraBacklog]:
        """Return the cameras that take machine time, also those whose shift has just ended."""
        return [
            each
            for each in self.backlogs.values()
            if each.waiting or (each.on_shift and self._is_streaming(each))
        ]

    def _resting(self) -> list[CameraBacklog]:
        """Return the streaming cameras that are off shift and whose backlog is finished."""
        return [
            each
            for each in self.backlogs.values()
            if not each.on_shift and not each.waiting and self._is_streaming(each)
        ]

    def _is_streaming(self, backlog: CameraBacklog) -> bool:
        newest_ns = backlog.arrivals_ns[-1] if backlog.arrivals_ns else None
        return self._is_within(SILENT_PERIODS, newest_ns, self._now_ns)

    def _is_within(self, periods: int, since_ns: int | None, now_ns: int) -> bool:
        return since_ns is not None and now_ns - since_ns <= periods * self._period_ns

    def _camera_interval_ns(self, backlog: CameraBacklog) -> float:
        # By arrival, not by stamp: a bag may be played at twice its speed.
        arrivals = backlog.arrivals_ns
        spent_ns = arrivals[-1] - arrivals[0] if len(arrivals) > 1 else 0
        return spent_ns / (len(arrivals) - 1) if spent_ns > 0 else self._period_ns


def _longest_resting(resting: Sequence[CameraBacklog]) -> CameraBacklog:
    return min(resting, key=lambda each: each.shift_ended)
