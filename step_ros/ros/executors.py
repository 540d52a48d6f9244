# SPDX-License-Identifier: Apache-2.0
"""The executor that spins a node, and calling a function in its thread from another thread."""

from collections.abc import Callable

from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node


class ExecutorError(ValueError):
    """This version of rclpy does not have the requested executor."""


def create_executor(wanted: str, *, context: Context | None = None) -> tuple[Executor, str]:
    """Return the executor for `auto`, `events` or `single`.

    The events executor is notified of new messages. The single-threaded one polls every entity
    each time, which costs about as much as receiving an image. rclpy has the events executor from
    Kilted on, and in later releases of Jazzy.

    Args:
        wanted: `auto`, `events` or `single`. `auto` is `events` where rclpy has it.
        context: The ROS context; None for the default one.

    Returns:
        The executor, and a description of it with the reason for the choice.

    Raises:
        ExecutorError: `events` is requested, and rclpy has no events executor.
    """
    if wanted == 'single':
        return SingleThreadedExecutor(context=context), 'single, as requested'
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError as error:
        if wanted == 'events':
            raise ExecutorError(
                "parameter executor='events': this rclpy has no events executor; set it to 'auto' "
                "or 'single'"
            ) from error
        description = 'single, because this rclpy has no events executor'
        return SingleThreadedExecutor(context=context), description
    description = 'events' if wanted == 'auto' else 'events, as requested'
    return EventsExecutor(context=context), description


def call_soon(node: Node, callback: Callable[[], None]) -> bool:
    """Call a function in the thread of a node's executor, as soon as possible.

    Args:
        node: The node.
        callback: The function.

    Returns:
        Whether the node has an executor; without one, the function is never called.
    """
    executor = node.executor
    if executor is None:
        return False
    # Not by a guard condition: the events executor does not support them.
    executor.create_task(callback)
    return True
