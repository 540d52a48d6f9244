"""A node whose callbacks run in a thread: for whoever listens beside other work."""

import contextlib
import threading

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


class SpinningNode:
    """A node in a ROS context of its own; subscribe, then start it.

    Args:
        name: Its name.

    Attributes:
        node: To subscribe with.
    """

    def __init__(self, name: str) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        # Nobody asks it for parameters: without their services it has less to wait for.
        self.node = Node(name, context=self._context, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def start(self) -> None:
        """Begin to take messages."""
        self._thread.start()

    def close(self) -> None:
        """Take no more, and leave ROS."""
        self._executor.shutdown()
        if self._thread.is_alive():
            self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()
