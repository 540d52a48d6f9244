"""What the node says about itself on `/diagnostics`: a status for each camera, one for the model.

A camera's frames add up: `received` = `used` + `off_grid` + `waiting` + those dropped. These are
all other counts but those in `NO_FRAMES` and in `PLACEMENTS`, into which `used` is divided.
"""

import time
from collections.abc import Callable, Sequence
from statistics import quantiles

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from step_ros.streaming.camera_state import frames_used
from step_ros.streaming.grid import Placement
from step_ros.streaming.worker import Worker

RECEIVED, USED, WAITING, OFF_GRID = 'received', 'used', 'waiting', Placement.OFF_GRID.value
# Counts of other things than frames.
SKIPPED = 'skipped_hypotheses'
NO_FRAMES = frozenset({'missed_slots', SKIPPED})
PLACEMENTS = frozenset(placement.value for placement in Placement if placement.on_grid)
_SOUND = PLACEMENTS | {RECEIVED, USED, WAITING, OFF_GRID, Placement.DUPLICATE.value}


class Diagnostics:
    """Makes the messages; a status warns of what is so, or has happened since the last message.

    Args:
        name: Name of the node.
        worker: The running worker.
        cameras: Names of the cameras.
        frames: Frames in a window (T).
        about: What else is to be said of the model: values by key, `model_id` among them.
        trouble: Says why nothing may come from a camera; empty where that is not so.
        newest_ns: Tells the stamp of a camera's newest message; None before the first.
        listens: Tells whether a camera is looked at.
    """

    def __init__(
        self,
        name: str,
        worker: Worker,
        *,
        cameras: Sequence[str],
        frames: int,
        about: dict[str, object],
        trouble: Callable[[str], str],
        newest_ns: Callable[[str], int | None],
        listens: Callable[[str], bool],
    ) -> None:
        self._name, self._worker, self._cameras = name, worker, cameras
        self._frames, self._about = frames, about
        self._trouble, self._newest_ns, self._listens = trouble, newest_ns, listens
        self._received_before: dict[str, tuple[int, int]] = {}
        self._lost_before: dict[str, dict[str, int]] = {camera: {} for camera in cameras}
        self._failures_before = 0

    def statuses(self, now_ns: int) -> list[DiagnosticStatus]:
        """Say how things are.

        Args:
            now_ns: The time by the clock of the stamps.
        """
        return [*(self._camera(camera, now_ns) for camera in self._cameras), self._model()]

    def _camera(self, camera: str, now_ns: int) -> DiagnosticStatus:
        counts = self._worker.queue.counts(camera)
        name = f'{self._name}: {camera}'
        listens = self._listens(camera)
        trouble = self._trouble(camera) if listens else ''
        if not counts.get(RECEIVED) and listens:
            message = 'no frame received yet' + (f': {trouble}' if trouble else '')
            return _status(DiagnosticStatus.WARN, name, message, {}, camera)
        counts[USED] = frames_used(counts)
        lost = {key: count for key, count in counts.items() if key not in _SOUND and count}
        window = self._worker.recogniser.cameras[camera].window
        serves = self._worker.queue.serves(camera)
        message = f'window {len(window)}/{self._frames}' if serves else 'waits for its turn'
        rate = self._rate(camera, counts[RECEIVED])
        if rate == 0:
            message = 'no frame since the last message' + (f': {trouble}' if trouble else '')
        if not listens:
            message = 'not looked at: it is none of active_cameras'
        if lost:
            message += '; lost: ' + ', '.join(f'{key} {count}' for key, count in lost.items())
        anew = lost != self._lost_before[camera]
        self._lost_before[camera] = lost
        sound = not listens or (serves and not anew and rate != 0)
        newest_ns = self._newest_ns(camera)
        age = 'none yet' if newest_ns is None else f'{(now_ns - newest_ns) / 1e6:.0f}'
        about: dict[str, object] = {
            'window': f'{len(window)}/{self._frames}',
            'rate_hz': 'none yet' if rate is None else f'{rate:.1f}',
            'stamp_age_ms': age,
        }
        return _status(
            DiagnosticStatus.OK if sound else DiagnosticStatus.WARN,
            name,
            message,
            {**counts, **about},
            camera,
        )

    def _rate(self, camera: str, received: int) -> float | None:
        """Return how many frames came per second since the last message; None for the first."""
        now_ns = time.monotonic_ns()
        before = self._received_before.get(camera)
        self._received_before[camera] = received, now_ns
        return None if before is None else (received - before[0]) * 1e9 / (now_ns - before[1])

    def _model(self) -> DiagnosticStatus:
        worker = self._worker
        timing, interval_ms = worker.recogniser.timing, worker.queue.interval_ms()
        cost_ms = timing.cost_ms
        overloaded = worker.queue.overloaded(time.monotonic_ns())
        message = f'needs {cost_ms:.1f} ms per grid frame, has {interval_ms:.1f} ms'
        message = f'overloaded: {message}' if overloaded else message
        level = DiagnosticStatus.WARN if overloaded else DiagnosticStatus.OK
        if worker.failures > self._failures_before:
            level = DiagnosticStatus.ERROR
        if worker.failures:
            message = f'{worker.failures} failures of the model; {message}'
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
    """Put statuses into one message."""
    message = DiagnosticArray(status=list(statuses))
    message.header.stamp = stamp
    return message


def node_status(name: str, state: str, *, error: str) -> DiagnosticStatus:
    """Say in which state of its life the node is, and what has brought it down.

    Args:
        name: Name of the node.
        state: Of its life cycle.
        error: What has brought it down; empty for nothing.
    """
    message = f'{error}; configure and activate it to go on' if error else state
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
    """Say how the heads are run, and what they keep."""
    recogniser = worker.recogniser
    if recogniser.not_streaming_reason:
        return {'heads': f'on whole windows: {recogniser.not_streaming_reason}'}
    caches = [stream.cache for stream in recogniser.cameras.values() if stream.cache is not None]
    found: dict[str, object] = {'heads': 'streaming'}
    if caches:
        found |= {
            'exponentials_kept': caches[0].kept,
            'compiled': caches[0].compiled,
            'bytes_per_camera_and_task': caches[0].bytes_per_task,
        }
    return found
