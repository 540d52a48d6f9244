"""The executor that a node spins in."""

from collections.abc import Callable

from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node


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


# ---- Calling something in the executor's thread from another one.


def call_soon(node: Node, what: Callable[[], None]) -> bool:
    """Let a node's executor call something as soon as it can.

    Not by a guard condition: the events executor takes none.

    Args:
        node: The node.
        what: What to call.

    Returns:
        Whether there is an executor; if not, nothing will be called.
    """
    executor = node.executor
    if executor is None:
        return False
    executor.create_task(what)
    return True
