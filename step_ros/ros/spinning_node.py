# SPDX-License-Identifier: Apache-2.0
"""A node whose callbacks run in a background thread, for clients with other work to do."""

import contextlib
import threading

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from step_ros.reporting.environment import RosEnvironmentError, check_ros_environment


class SpinningNode:
    """A node with its own ROS context and thread. Subscribe first, then call `start`.

    Args:
        name: Name of the node and its thread.

    Raises:
        RosEnvironmentError: ROS 2 cannot start in this environment, for example for its domain.

    Attributes:
        node: The node; create subscriptions with it.
    """

    def __init__(self, name: str) -> None:
        self._context = Context()
        check_ros_environment()
        try:
            rclpy.init(context=self._context)
            # A client has no parameters; without their services, spinning waits on fewer entities.
            self.node = Node(name, context=self._context, start_parameter_services=False)
        except RuntimeError as error:
            rclpy.try_shutdown(context=self._context)
            raise RosEnvironmentError(f'ROS 2 cannot start: {error}') from error
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread, which runs the callbacks."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, and destroy the node and its context."""
        self._executor.shutdown()
        if self._thread.is_alive():
            self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()
