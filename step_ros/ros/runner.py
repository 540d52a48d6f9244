# SPDX-License-Identifier: Apache-2.0
"""Run a node as a program that ends cleanly on signals and on wrong arguments."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from step_ros.reporting.environment import check_ros_environment

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds that a node has to end by itself after a signal.
GRACE = 1.5

AnyNode = TypeVar('AnyNode', bound=Node)


def run_node(
    name: str,
    make: Callable[[], AnyNode],
    run: Callable[[AnyNode, threading.Event], None],
    *,
    args: list[str] | None = None,
    expected: tuple[type[Exception], ...] = (),
) -> int:
    """Create a node and run it until `run` returns or a signal arrives.

    Args:
        name: Name of the node, for error messages before it exists.
        make: Creates the node.
        run: Spins the node. It must return soon after the event is set by SIGINT or SIGTERM. If it
            does not return within `GRACE`, for example while it loads a model, the program ends.
        args: Command line arguments; None for those of the program.
        expected: Errors that the user can fix: they are logged in one line, without a traceback.

    Returns:
        Exit code: 0, or 1 after an expected error.
    """
    stop = threading.Event()
    for number in SIGNALS:
        # rclpy's own handlers would shut the context down while a thread publishes.
        signal.signal(number, lambda *_: stop.set())
    _end_within_grace()
    try:
        check_ros_environment()
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # malformed ROS arguments, a wrong domain, no folder for logs
        _log_fatal(name, error)
        return 1
    node: AnyNode | None = None
    try:
        node = make()
        run(node, stop)
    except (ParameterException, *expected) as error:
        _log_fatal(name, error)
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def leave(code: int) -> NoReturn:
    """End the program at once.

    A regular exit collects garbage among all objects of torch first, which takes seconds.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_within_grace() -> None:
    """Start a thread that ends the program when `GRACE` seconds have passed after a signal.

    Python runs signal handlers in the main thread only, which may be busy for long.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        with sender, receiver:
            while receiver.recv(1)[0] not in SIGNALS:
                pass
            time.sleep(GRACE)
            leave(0)

    threading.Thread(target=wait, name='step_ros exit', daemon=True).start()


def _log_fatal(name: str, error: Exception) -> None:
    line = ' '.join(str(error).split())
    if rclpy.ok():
        get_logger(name).fatal(line)
    else:
        print(f'{name}: {line}', file=sys.stderr)
