"""Running a node as a program that ends cleanly: on signals, on wrong arguments."""

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

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# How long after a signal a node may take to end by itself, in seconds.
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
    """Make a node and run it until it returns or the program is told to end.

    Args:
        name: Name of the node, for messages before it exists.
        make: Makes the node.
        run: Spins the node; must return soon after the event is set, on SIGINT or SIGTERM. Where
            it does not within `GRACE`, as while a model is loaded, the program ends all the same.
        args: Command line arguments; None for the program's own.
        expected: Errors that are the user's to mend: one line, no traceback.

    Returns:
        Exit code: 0; or 1 after one line on what was wrong.
    """
    stop = threading.Event()
    for number in SIGNALS:
        # Instead of rclpy's handlers, which invalidate the context under a thread that publishes.
        signal.signal(number, lambda *_: stop.set())
    _end_within_grace()
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # malformed ROS arguments
        _say(name, error)
        return 1
    node: AnyNode | None = None
    try:
        node = make()
        run(node, stop)
    except (ParameterException, *expected) as error:
        _say(name, error)
        return 1
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def leave(code: int) -> NoReturn:
    """End the program at once.

    Python would look for garbage among all of torch first, which takes seconds.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_within_grace() -> None:
    """Let a thread end the program where the main one is too busy to hear of a signal."""
    told, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        with wakes, told:
            while told.recv(1)[0] not in SIGNALS:
                pass
            time.sleep(GRACE)
            leave(0)

    threading.Thread(target=wait, name='step_ros end', daemon=True).start()


def _say(name: str, error: Exception) -> None:
    line = ' '.join(str(error).split())
    if rclpy.ok():
        get_logger(name).fatal(line)
    else:
        print(f'{name}: {line}', file=sys.stderr)
