"""Calling something in the executor's thread from another one."""

from collections.abc import Callable

from rclpy.node import Node


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
