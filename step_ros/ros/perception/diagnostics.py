# SPDX-License-Identifier: Apache-2.0
"""The node's messages on `/diagnostics`: a status for each camera, the model, and the node.

The frame counts of a camera add up: `received` = `used` + `off_grid` + `waiting` + dropped frames.
`used` is the sum of the counts in `PLACEMENTS`. The counts in `NO_FRAMES` do not count frames. All
other counts are dropped frames, by cause.
"""

import time
from collections.abc import Callable, Sequence
from statistics import quantiles

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from step_ros.streaming.camera_state import frames_used
from step_ros.streaming.grid import NANOSECONDS, Placement
from step_ros.streaming.worker import Worker

RECEIVED, USED, WAITING, OFF_GRID = 'received', 'used', 'waiting', Placement.OFF_GRID.value
# Counts that are not numbers of frames.
SKIPPED = 'skipped_hypotheses'
NO_FRAMES = frozenset({'missed_slots', SKIPPED})
PLACEMENTS = frozenset(placement.value for placement in Placement if placement.on_grid)
_NOT_LOST = PLACEMENTS | {RECEIVED, USED, WAITING, OFF_GRID, Placement.DUPLICATE.value}


class Diagnostics:
    """Makes the statuses. A status warns about a present problem, or one since the last message.

    Args:
        name: Name of the node.
        worker: The running worker.
        cameras: Names of the cameras.
        frames: Frames in a window (T).
        about: More values of the model's status by key, including `model_id`.
        problem: Returns why a camera may send no image; empty where nothing is wrong.
        newest_ns: Returns the stamp of a camera's newest message; None before the first.
        is_active: Returns whether the node subscribes to a camera.
        warn: Logs a warning about a camera that has become too slow.
    """

    def __init__(
        self,
        name: str,
        worker: Worker,
        *,
        cameras: Sequence[str],
        frames: int,
        about: dict[str, object],
        problem: Callable[[str], str],
        newest_ns: Callable[[str], int | None],
        is_active: Callable[[str], bool],
        warn: Callable[[str], object],
    ) -> None:
        self._name, self._worker, self._cameras = name, worker, cameras
        self._frames, self._about = frames, about
        self._problem, self._newest_ns, self._is_active = problem, newest_ns, is_active
        self._received_before: dict[str, tuple[int, int]] = {}
        self._lost_before: dict[str, dict[str, int]] = {camera: {} for camera in cameras}
        self._failures_before = 0
        self._warn = warn
        self._slow_before: set[str] = set()

    def statuses(self, now_ns: int) -> list[DiagnosticStatus]:
        """Return the statuses of all cameras and of the model.

        Args:
            now_ns: The present time by the node's clock, in nanoseconds.
        """
        return [*(self._camera(camera, now_ns) for camera in self._cameras), self._model()]

    def _camera(self, camera: str, now_ns: int) -> DiagnosticStatus:
        counts = self._worker.queue.counts(camera)
        name = f'{self._name}: {camera}'
        active = self._is_active(camera)
        problem = self._problem(camera) if active else ''
        if not counts.get(RECEIVED) and active:
            message = 'no frame received yet' + (f': {problem}' if problem else '')
            return _status(DiagnosticStatus.WARN, name, message, {}, camera)
        counts[USED] = frames_used(counts)
        lost = {key: count for key, count in counts.items() if key not in _NOT_LOST and count}
        window = self._worker.recogniser.cameras[camera].window
        serves = self._worker.queue.serves(camera)
        message = f'window {len(window)}/{self._frames}' if serves else 'paused by load shedding'
        rate = self._rate(camera, counts[RECEIVED])
        if rate == 0:
            message = 'no frame since the last message' + (f': {problem}' if problem else '')
        if not active:
            message = 'inactive: not in the parameter active_cameras'
        if lost:
            message += '; lost: ' + ', '.join(f'{key} {count}' for key, count in lost.items())
        slow = self._slowness(camera) if active else ''
        if slow:
            message += f'; {slow}'
        new_loss = lost != self._lost_before[camera]
        self._lost_before[camera] = lost
        healthy = not active or (serves and not new_loss and rate != 0 and not slow)
        newest_ns = self._newest_ns(camera)
        age = 'none yet' if newest_ns is None else f'{(now_ns - newest_ns) / 1e6:.0f}'
        about: dict[str, object] = {
            'window': f'{len(window)}/{self._frames}',
            'rate_hz': 'none yet' if rate is None else f'{rate:.1f}',
            'stamp_age_ms': age,
        }
        return _status(
            DiagnosticStatus.OK if healthy else DiagnosticStatus.WARN,
            name,
            message,
            {**counts, **about},
            camera,
        )

    def _slowness(self, camera: str) -> str:
        """Return why a camera is too slow to fill a window, and the mend; empty if it is not.

        Warn in the log, once until the window fills again.
        """
        recogniser = self._worker.recogniser
        gap = recogniser.cameras[camera].slow_ns / NANOSECONDS
        if not gap:
            self._slow_before.discard(camera)
            return ''
        longest = recogniser.settings.max_gap_ns / NANOSECONDS
        period = recogniser.settings.frame_period_ns / NANOSECONDS
        text = (
            f'too slow: images are {gap:.3g} s apart, longer than max_gap ({longest:.3g} s), so '
            f'that each gap restarts the window before it is full and no hypothesis comes; the '
            f'model expects an image every {period:.3g} s: raise the rate of the camera, or '
            f'max_gap above {gap:.3g} s (at the cost of accuracy)'
        )
        if camera not in self._slow_before:
            self._slow_before.add(camera)
            self._warn(f'camera {camera}: {text}')
        return text

    def _rate(self, camera: str, received: int) -> float | None:
        """Return the frames received per second since the last message; None for the first."""
        now_ns = time.monotonic_ns()
        before = self._received_before.get(camera)
        self._received_before[camera] = received, now_ns
        return None if before is None else (received - before[0]) * 1e9 / (now_ns - before[1])

    def _model(self) -> DiagnosticStatus:
        worker = self._worker
        timing, interval_ms = worker.recogniser.timing, worker.queue.interval_ms()
        cost_ms = timing.cost_ms
        overloaded = worker.queue.overloaded(time.monotonic_ns())
        message = f'a grid frame costs {cost_ms:.1f} ms, one arrives every {interval_ms:.1f} ms'
        message = f'overloaded: {message}' if overloaded else message
        level = DiagnosticStatus.WARN if overloaded else DiagnosticStatus.OK
        if worker.failures > self._failures_before:
            level = DiagnosticStatus.ERROR
        if worker.failures:
            message = f'the model failed on {worker.failures} batches; {message}'
        self._failures_before = worker.failures
        frame_ms = timing.recent_frame_ms()
        streams = worker.recogniser.cameras.values()
        values = {
            **self._about,
            'state': 'overloaded' if overloaded else 'normal',
            'needs_ms': f'{cost_ms:.2f}',
            'has_ms': f'{interval_ms:.2f}',
            'headroom_percent': f'{100 * (1 - cost_ms / interval_ms):.0f}',
            'encode_ms': f'{timing.encode_ms:.2f}',
            'decide_ms': f'{timing.predict_ms:.2f}',
            'frame_ms_median': _quantile(frame_ms, 50),
            'frame_ms_p95': _quantile(frame_ms, 95),
            'cameras_served': sum(worker.queue.serves(camera) for camera in self._cameras),
            SKIPPED: sum(stream.counts[SKIPPED] for stream in streams),
            'failures': worker.failures,
            **_heads(worker),
        }
        return _status(
            level, f'{self._name}: model', message, values, str(self._about['model_id'])
        )


def diagnostics_message(statuses: Sequence[DiagnosticStatus], stamp: Time) -> DiagnosticArray:
    """Return statuses as one message."""
    message = DiagnosticArray(status=list(statuses))
    message.header.stamp = stamp
    return message


def node_status(name: str, state: str, *, error: str, progress: str = '') -> DiagnosticStatus:
    """Return the status of the node: its lifecycle state, or the error that stopped it.

    An error stays until the node is configured and activated again.

    Args:
        name: Name of the node.
        state: Its lifecycle state.
        error: The error that stopped it; empty for none.
        progress: How far loading the model is; empty if none is being loaded.
    """
    message = f'{error}; configure and activate the node again' if error else state
    if progress:
        message = f'configuring: {progress}' + (f'; before: {error}' if error else '')
    level = DiagnosticStatus.ERROR if error else DiagnosticStatus.OK
    return _status(level, f'{name}: node', message, {'state': state}, name)


def _status(
    level: bytes, name: str, message: str, values: dict[str, object], hardware_id: str
) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )


def _quantile(values: Sequence[float], percent: int) -> str:
    if len(values) < 2:
        return f'{values[0]:.2f}' if values else 'none yet'
    return f'{quantiles(values, n=100, method="inclusive")[percent - 1]:.2f}'


def _heads(worker: Worker) -> dict[str, object]:
    """Return whether the heads stream, and the memory of their caches."""
    recogniser = worker.recogniser
    if recogniser.not_streaming_reason:
        return {'heads': f'on whole windows: {recogniser.not_streaming_reason}'}
    caches = [stream.cache for stream in recogniser.cameras.values() if stream.cache is not None]
    values: dict[str, object] = {'heads': 'streaming'}
    if caches:
        values |= {
            'exponentials_kept': caches[0].kept,
            'compiled': caches[0].compiled,
            'bytes_per_camera_and_task': caches[0].bytes_per_task,
        }
    return values
