"""What the node says about itself on `/diagnostics`."""

from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from step_ros.ros.worker import Worker

# Counters that mean that frames were lost or could not be used.
HARMLESS = frozenset(
    {'received', 'start', 'new', 'off_grid', 'gap', 'jump', 'reordered', 'duplicate'}
)


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


def camera_status(name: str, camera: str, worker: Worker, *, frames: int) -> DiagnosticStatus:
    """Say what became of one camera's frames.

    Args:
        name: Name of the node.
        camera: Name of the camera.
        worker: The running worker.
        frames: Frames in a window (T).
    """
    stream = worker.recogniser.cameras.get(camera)
    if stream is None or not stream.counts['received']:
        return _status(
            DiagnosticStatus.WARN, f'{name}: {camera}', 'no frame received yet', {}, camera
        )
    counts = dict(stream.counts)
    overflow = worker.queue.dropped[camera]
    lost = {key: count for key, count in counts.items() if key not in HARMLESS and count}
    if overflow:
        lost['queue_overflow'] = overflow
    message = f'window {len(stream.window)}/{frames}'
    if lost:
        message += '; lost: ' + ', '.join(f'{key} {count}' for key, count in lost.items())
    return _status(
        DiagnosticStatus.WARN if lost else DiagnosticStatus.OK,
        f'{name}: {camera}',
        message,
        {**counts, 'queue_overflow': overflow},
        camera,
    )


def model_status(name: str, worker: Worker, *, model_id: str, device: str) -> DiagnosticStatus:
    """Say how the model does: its time per turn and its failures."""
    busy = sorted(worker.busy_ms)
    median = f'{busy[len(busy) // 2]:.1f}' if busy else 'none yet'
    failed = worker.failures
    return _status(
        DiagnosticStatus.ERROR if failed else DiagnosticStatus.OK,
        f'{name}: model',
        f'{failed} failures of the model' if failed else 'running',
        {
            'model_id': model_id,
            'device': device,
            'turn_ms_median': median,
            'failures': failed,
            **_heads(worker),
        },
        model_id,
    )


def _heads(worker: Worker) -> dict[str, object]:
    """Say how the heads are run, and what they keep."""
    recogniser = worker.recogniser
    if recogniser.why_plain:
        return {'heads': f'on whole windows: {recogniser.why_plain}'}
    caches = [stream.cache for stream in recogniser.cameras.values() if stream.cache is not None]
    found: dict[str, object] = {'heads': 'streaming'}
    if caches:
        found |= {
            'exponentials_kept': caches[0].kept,
            'compiled': caches[0].compiled,
            'bytes_per_camera_and_task': caches[0].bytes_per_task,
        }
    return found


def diagnostics_message(statuses: Sequence[DiagnosticStatus], stamp: object) -> DiagnosticArray:
    """Put statuses into one stamped message."""
    message = DiagnosticArray(status=list(statuses))
    message.header.stamp = stamp
    return message
