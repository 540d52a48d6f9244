# SPDX-License-Identifier: Apache-2.0
"""Play a source as a camera: wait for each stamp by the node's clock, then publish.

`CameraPlayer` is the thread that renders ahead and publishes each image at its stamp. `ClockWatch`
waits by a clock that may be simulated, stand still or jump. `TruthTrack` turns the actions on the
synthetic tabletop into events.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.time import Time

from step_ros.cameras.sources import CameraSource
from step_ros.msg import ActionEvent
from step_ros.streaming.grid import NANOSECONDS
from step_ros.tabletop.simulator import ActionSegment

# Longest seconds between two looks at the clock while waiting: no callback reports that the system
# clock was set back.
LONGEST_WAIT = 0.1

# A larger step forward is a jump, not the passing of time: simulated time that was set forward, a
# machine without a clock battery that got its time from the network, a suspended process.
LEAP_NS = 10 * NANOSECONDS

WARN_PERIOD = 5.0


class ClockWatch:
    """Waits for times of a node's clock, which may be simulated, stand still or jump.

    A jump is a step back, or one forward of more than `LEAP_NS`.

    Args:
        clock: The node's clock.
        stop: Ends every wait once it is set.
    """

    def __init__(self, clock: Clock, stop: threading.Event) -> None:
        self._clock, self._stop = clock, stop
        self._moved = threading.Event()
        self._jumped = False
        self._latest_ns = 0
        # rclpy calls it for simulated time only: at each tick, and when `use_sim_time` changes.
        self._handle = clock.create_jump_callback(
            JumpThreshold(
                min_forward=Duration(nanoseconds=1),
                min_backward=Duration(nanoseconds=-1),
                on_clock_change=True,
            ),
            post_callback=self._on_jump,
        )

    def close(self) -> None:
        """Stop listening to the clock."""
        self._handle.unregister()

    def restart(self) -> None:
        """Accept the present time, and forget earlier times and jumps."""
        self._jumped, self._latest_ns = False, 0

    def now_ns(self) -> int:
        """Return the clock's time in nanoseconds."""
        now_ns = int(self._clock.now().nanoseconds)
        if self._latest_ns and not 0 <= now_ns - self._latest_ns <= LEAP_NS:
            self._jumped = True
        self._latest_ns = now_ns
        return now_ns

    def wait_until(self, time_ns: int) -> bool:
        """Wait until the clock reaches a time in nanoseconds.

        Returns:
            False if the clock jumped or `stop` was set; else True.
        """
        while True:
            self._moved.clear()
            missing_ns = time_ns - self.now_ns()
            if self._jumped or self._stop.is_set():
                return False
            if missing_ns <= 0:
                return True
            simulated = self._clock.ros_time_is_active
            timeout = LONGEST_WAIT if simulated else min(missing_ns / NANOSECONDS, LONGEST_WAIT)
            self._moved.wait(timeout)

    def wake(self) -> None:
        """Wake a waiting thread, to look at the clock and at `stop`."""
        self._moved.set()

    def _on_jump(self, jump: TimeJump) -> None:
        if jump.delta.nanoseconds < 0:
            self._jumped = True
        self._moved.set()


class CameraPlayer(threading.Thread):
    """Publishes a source's frames, each at its stamp.

    A frame is rendered and encoded before its stamp is due, so that publishing is as steady as the
    clock. If rendering takes longer than a frame period, overdue frames are skipped.

    Args:
        source: The source of the frames.
        watch: Waits for stamps.
        start_delay: Seconds before the first frame.
        stop: Set to end the stream.
        encode: Returns an image as a message without a stamp.
        publish: Publishes a message with its stamp. It also gets the action in the image, and the
            stamp of stream time zero in nanoseconds.
        on_restart: Called when the clock jumped, before the stream restarts.
        logger: The node's logger.

    Attributes:
        error: The exception that ended the thread; None for none.
        published: Number of published images.
    """

    def __init__(
        self,
        source: CameraSource,
        watch: ClockWatch,
        *,
        start_delay: float,
        stop: threading.Event,
        encode: Callable[[np.ndarray], Any],
        publish: Callable[[Any, ActionSegment | None, int], None],
        on_restart: Callable[[], None],
        logger: Any,
    ) -> None:
        super().__init__(name='camera_stream', daemon=True)
        self._source, self._watch, self._stop_event = source, watch, stop
        self._start_delay = start_delay
        self._encode, self._publish, self._on_restart = encode, publish, on_restart
        self._logger = logger
        self.error: Exception | None = None
        self.published = 0

    def run(self) -> None:
        """Play the source until it ends or `stop` is set."""
        try:
            while not self._stop_event.is_set() and not self._play():
                pass
        except Exception as error:  # the main thread reports it
            self.error = error

    def stop(self) -> None:
        """End the stream and wait for the thread."""
        self._stop_event.set()
        self._watch.wake()
        if self.is_alive():
            self.join(timeout=5.0)

    def _play(self) -> bool:
        """Play the source from its beginning; return False if it must be played again."""
        source, watch = self._source, self._watch
        watch.restart()
        source.restart()
        time_ns = source.advance(0)
        if time_ns is None:
            return True
        message = self._encode(source.image())
        if not self._wait_for_start():
            return False
        zero_ns = watch.now_ns() - time_ns
        while time_ns is not None:
            stamp_ns = zero_ns + time_ns
            if not watch.wait_until(stamp_ns):
                if not self._stop_event.is_set():
                    self._logger.info('the clock jumped: the camera restarts')
                    self._on_restart()
                return False
            message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
            self._publish(message, source.segment(), zero_ns)
            self.published += 1
            skipped = source.skipped
            time_ns = source.advance(watch.now_ns() - zero_ns)
            if source.skipped > skipped:
                self._warn_about_skipped()
            if time_ns is not None:
                message = self._encode(source.image())
        return True

    def _wait_for_start(self) -> bool:
        # Simulated time is 0 until the first message on /clock.
        if not self._watch.wait_until(1):
            return False
        if self._start_delay:
            return self._watch.wait_until(
                self._watch.now_ns() + round(self._start_delay * NANOSECONDS)
            )
        return True

    def _warn_about_skipped(self) -> None:
        self._logger.warning(
            f'{self._source.skipped} frames skipped so far, {self.published} published: rendering '
            'takes longer than a frame period; set a lower rate or a smaller image',
            throttle_duration_sec=WARN_PERIOD,
        )


class TruthTrack:
    """Turns the action segments of successive frames into START and END events: the ground truth.

    Args:
        camera: Name of the camera.
        frame_id: Its coordinate frame.
    """

    def __init__(self, *, camera: str, frame_id: str) -> None:
        self._camera, self._frame_id = camera, frame_id
        self._current: ActionSegment | None = None

    def restart(self) -> None:
        """Forget the current action, whose end will never be seen."""
        self._current = None

    def events(self, segment: ActionSegment | None, *, zero_ns: int) -> list[ActionEvent]:
        """Return the events that a frame brings.

        Args:
            segment: The action in the frame; None for none.
            zero_ns: Stamp of stream time zero, in nanoseconds.

        Returns:
            For each task the END of the segment before and the START of this one; nothing while
            the segment goes on. The stamps are exact times, not those of frames.
        """
        before = self._current
        if before is not None and segment is not None and before.start_s == segment.start_s:
            return []
        self._current = segment
        events = []
        if before is not None:
            events += self._events_of(ActionEvent.END, before, before.end_s, zero_ns)
        if segment is not None:
            events += self._events_of(ActionEvent.START, segment, segment.start_s, zero_ns)
        return events

    def _events_of(
        self, kind: int, segment: ActionSegment, time_s: float, zero_ns: int
    ) -> list[ActionEvent]:
        events = []
        for task, label in segment.labels.items():
            event = ActionEvent(camera=self._camera, type=kind, task=task, label=label)
            event.score = event.order_evidence = 1.0
            event.header.frame_id = self._frame_id
            event.header.stamp = _stamp(time_s, zero_ns)
            event.start_stamp = _stamp(segment.start_s, zero_ns)
            events.append(event)
        return events


def _stamp(time_s: float, zero_ns: int) -> object:
    return Time(nanoseconds=zero_ns + round(time_s * NANOSECONDS)).to_msg()
