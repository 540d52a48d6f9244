"""The executor that a node spins in."""

from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor


class ExecutorError(ValueError):
    """This rclpy has no such executor."""


def create_executor(wanted: str, *, context: Context | None = None) -> tuple[Executor, str]:
    """Create the executor for `auto`, `events` or `single`.

    The events executor is told what has come; the single-threaded one asks everything each time,
    which for an image costs about as much as receiving it. rclpy has it from Kilted on, and in
    later releases of Jazzy.

    Args:
        wanted: Which one.
        context: The ROS context; None for the default one.

    Returns:
        The executor, and which one it is, with the reason, in words.

    Raises:
        ExecutorError: `events` is wanted and rclpy has no events executor.
    """
    if wanted == 'single':
        return SingleThreadedExecutor(context=context), 'single, as wanted'
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError as error:
        if wanted == 'events':
            raise ExecutorError(
                "parameter executor='events': this rclpy has none; take auto or single"
            ) from error
        which = 'single, for this rclpy has no events executor'
        return SingleThreadedExecutor(context=context), which
    return EventsExecutor(context=context), 'events' if wanted == 'auto' else 'events, as wanted'
