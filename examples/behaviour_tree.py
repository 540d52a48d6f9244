#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A behaviour tree that follows the person: move away while they pick something up, then help.

Needs py_trees (`pip install py_trees`, or `sudo apt install ros-$ROS_DISTRO-py-trees`).

    python3 examples/behaviour_tree.py --ros-args -p rounds:=2
"""

import signal
import sys
from collections.abc import Sequence
from functools import partial

import py_trees
import rclpy
from py_trees.common import Status
from rclpy.action import ActionClient
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from step_ros.action import WaitForAction

TICK = 0.1
# Longest time in seconds to wait until goals are canceled.
CANCEL_SECONDS = 2.0


def say(text: str) -> None:
    """Print an action of the robot and its reason."""
    print(f'[tree]      {text}', flush=True)


def cancel(sent: Future, *, done: Future) -> None:
    """Cancel a goal that the server has acknowledged.

    Args:
        sent: The future of the goal's handle.
        done: Set once the server has answered.
    """
    if not sent.result().accepted:
        done.set_result(None)
        return
    canceled = sent.result().cancel_goal_async()
    canceled.add_done_callback(lambda _: done.set_result(None))


class WaitForHuman(py_trees.behaviour.Behaviour):
    """Runs until an event of one of the labels starts; fails if none does in time.

    Args:
        name: Name in the tree.
        client: Client of the perception node's action.
        labels: The labels to wait for.
        timeout: Longest time to wait, in seconds; 0 for no limit.
        minimum_order_evidence: See `WaitForAction`.
    """

    def __init__(
        self,
        name: str,
        *,
        client: ActionClient,
        labels: Sequence[str],
        timeout: float = 0.0,
        minimum_order_evidence: float = 0.0,
    ) -> None:
        super().__init__(name)
        self.client = client
        self.goal = WaitForAction.Goal(
            labels=list(labels),
            timeout=Duration(seconds=timeout).to_msg(),
            minimum_order_evidence=minimum_order_evidence,
            # The event may have started while the robot was doing something else.
            include_current=True,
        )
        self.sent: Future | None = None
        self.result: Future | None = None
        self.canceling: Future | None = None

    def initialise(self) -> None:
        """Send the goal; py_trees calls this when the behaviour starts."""
        self.sent = self.result = None
        if self.client.server_is_ready():
            self.sent = self.client.send_goal_async(self.goal)

    def update(self) -> Status:
        """Return the state of the goal; py_trees calls this at each tick."""
        if self.sent is None:
            self.feedback_message = 'there is no perception node'
            return Status.FAILURE
        if not self.sent.done():
            return Status.RUNNING
        if not self.sent.result().accepted:
            self.feedback_message = 'the perception node is not active, or serves too many goals'
            return Status.FAILURE
        if self.result is None:
            self.result = self.sent.result().get_result_async()
        if not self.result.done():
            return Status.RUNNING
        result = self.result.result().result
        self.feedback_message = result.message
        return Status.SUCCESS if result.reason == result.FOUND else Status.FAILURE

    def terminate(self, new_status: Status) -> None:
        """Cancel the goal if a behaviour of higher priority interrupts."""
        if new_status != Status.INVALID or self.sent is None:
            return
        if self.result is None or not self.result.done():
            self.canceling = Future()
            # The server may not have acknowledged the goal yet: cancel it as soon as it has.
            self.sent.add_done_callback(partial(cancel, done=self.canceling))


class Do(py_trees.behaviour.Behaviour):
    """A placeholder for an action of the robot: prints it with its reason.

    Args:
        action: Description of the action.
        because: The behaviour whose outcome is the reason.
    """

    def __init__(self, action: str, *, because: py_trees.behaviour.Behaviour) -> None:
        super().__init__(action)
        self.because = because

    def update(self) -> Status:
        """Print the action and its reason."""
        say(f'{self.name}, because: {self.because.feedback_message}')
        return Status.SUCCESS


def assembly_cell(client: ActionClient) -> py_trees.behaviour.Behaviour:
    """Return the tree: move away when the person picks something up, then help or wait."""
    objects = ('cup', 'bottle', 'screwdriver')
    picks_up = WaitForHuman(
        'person picks up',
        client=client,
        labels=[f'pick up {name}' for name in objects],
        minimum_order_evidence=0.3,
    )
    lays_down = WaitForHuman(
        'person lays down',
        client=client,
        labels=[f'lay down {name}' for name in objects],
        minimum_order_evidence=0.3,
        timeout=20.0,
    )
    wait_or_give_up = py_trees.composites.Selector('lays down or keeps it', memory=True)
    help_out = py_trees.composites.Sequence('help', memory=True)
    help_out.add_children([lays_down, Do('taking the part to the rack', because=lays_down)])
    wait_or_give_up.add_children([help_out, Do('leaving the person alone', because=lays_down)])
    root = py_trees.composites.Sequence('assembly cell', memory=True)
    root.add_children([picks_up, Do('moving the arm away', because=picks_up), wait_or_give_up])
    return root


class Cell(Node):
    """Ticks the tree."""

    def __init__(self) -> None:
        super().__init__('assembly_cell')
        self.rounds = self.declare_parameter('rounds', 2).value
        self.done = 0
        client = ActionClient(self, WaitForAction, 'perception/wait_for_action')
        self.root = assembly_cell(client)
        say('waiting for the perception node')
        client.wait_for_server()
        say('watching')
        self.create_timer(TICK, self.tick)

    def tick(self) -> None:
        """Tick the tree once, and count finished rounds."""
        self.root.tick_once()
        if self.root.status == Status.SUCCESS:
            self.done += 1
        elif self.root.status == Status.FAILURE:
            say(f'starting again: {self.root.tip().feedback_message}')


def interrupt(node: Cell) -> None:
    """Stop the tree, and wait until its goals are canceled at the server."""
    node.root.stop(Status.INVALID)
    waits = [each for each in node.root.iterate() if isinstance(each, WaitForHuman)]
    for wait in waits:
        if wait.canceling is not None:
            rclpy.spin_until_future_complete(node, wait.canceling, timeout_sec=CANCEL_SECONDS)


def main() -> int:
    """Run until the tree has finished the given number of rounds."""
    # The handlers of rclpy would end the connection before the goals are canceled.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = Cell()
    try:
        while node.done < node.rounds:
            rclpy.spin_once(node, timeout_sec=0.5)
        say(f'{node.rounds} rounds done')
    except (KeyboardInterrupt, ExternalShutdownException):
        interrupt(node)
        say('interrupted')
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
