#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A robot that hands over the next part when the person has laid down the last one.

It waits with the action `WaitForAction` of the perception node. A label with a high score but low
order evidence could also be its counterpart (picking up): then the robot keeps waiting.

    python3 examples/hand_over.py --ros-args -p parts:=3
"""

import signal
import sys
import time

import rclpy
from rclpy.action import ActionClient
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions

from step_ros.action import WaitForAction
from step_ros.msg import ModelInfo

# Longest time in seconds to wait until the goal is canceled.
CANCEL_SECONDS = 2.0


class HandOver(Node):
    """Hands over one part each time the person lays something down."""

    def __init__(self) -> None:
        super().__init__('hand_over')
        self.parts = self.declare_parameter('parts', 3).value
        self.task = self.declare_parameter('task', 'action').value
        self.beginning = self.declare_parameter('label_beginning', 'lay down').value
        self.minimum_score = self.declare_parameter('minimum_score', 0.6).value
        self.minimum_order_evidence = self.declare_parameter('minimum_order_evidence', 0.3).value
        self.labels: list[str] = []
        self.handed_over = 0
        self.holding = ''
        self.sent: rclpy.Future | None = None
        self.client = ActionClient(self, WaitForAction, 'perception/wait_for_action')
        # Latched: the message comes at once, however long ago the model was loaded.
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(ModelInfo, 'perception/model_info', self.on_model, latched)
        self.say('waiting for the perception node')

    @property
    def done(self) -> bool:
        """Whether all parts are handed over."""
        return self.handed_over >= self.parts

    def say(self, text: str) -> None:
        """Print an action of the robot and its reason."""
        print(f'[hand_over] {text}', flush=True)

    def on_model(self, model: ModelInfo) -> None:
        """Choose the labels to wait for among the labels of the model."""
        labels = [label for task in model.tasks if task.task == self.task for label in task.labels]
        self.labels = [label for label in labels if label.startswith(self.beginning)]
        if not self.labels:
            self.say(f'no label of {model.model_id} begins with {self.beginning!r}: {labels}')
            return
        self.say(f'{model.model_id}: waiting for one of {", ".join(self.labels)}')
        self.client.wait_for_server()
        self.wait()

    def wait(self) -> None:
        """Send a goal that ends when an event of one of the labels starts."""
        goal = WaitForAction.Goal(
            task=self.task,
            labels=self.labels,
            minimum_score=self.minimum_score,
            minimum_order_evidence=self.minimum_order_evidence,
        )
        self.holding = ''
        self.say(f'holding part {self.handed_over + 1}')
        self.sent = self.client.send_goal_async(goal, feedback_callback=self.on_feedback)
        self.sent.add_done_callback(self.on_accepted)

    def on_accepted(self, sent: rclpy.Future) -> None:
        """Wait for the result if the goal was accepted; else try again later."""
        handle = sent.result()
        if handle.accepted:
            handle.get_result_async().add_done_callback(self.on_result)
        else:
            self.say(
                'the perception node is not active, or serves too many goals; trying again in a '
                'second'
            )
            self.later()

    def later(self) -> None:
        """Send the goal again in a second."""
        timer = self.create_timer(1.0, lambda: (self.destroy_timer(timer), self.wait()))

    def on_feedback(self, message: WaitForAction.Impl.FeedbackMessage) -> None:
        """Print why the robot keeps waiting although a label has a high score."""
        seen = message.feedback
        confident = seen.score >= self.minimum_score
        if not confident or seen.order_evidence >= self.minimum_order_evidence:
            return
        if seen.label != self.holding:
            self.holding = seen.label
            self.say(
                f'still holding: {seen.label!r} has a score of {seen.score:.2f}, but an order '
                f'evidence of {seen.order_evidence:.2f}: it could be its counterpart'
            )

    def on_result(self, future: rclpy.Future) -> None:
        """Hand the part over, or print the reason for not doing so."""
        result, self.sent = future.result().result, None
        if result.reason == result.CANCELED:
            return None
        if result.reason != result.FOUND:
            self.say(f'no part handed over: {result.message}')
            return self.later()
        event = result.event
        self.handed_over += 1
        self.say(
            f'handing over part {self.handed_over} of {self.parts}, because of {event.label!r} '
            f'on camera {event.camera!r} (score {event.score:.2f}, order evidence '
            f'{event.order_evidence:.2f})'
        )
        if not self.done:
            self.wait()
        return None

    def cancel(self) -> None:
        """Cancel the goal at the server, also if the server has not acknowledged it yet."""
        if self.sent is not None:
            self.sent.add_done_callback(
                lambda sent: sent.result().accepted and sent.result().cancel_goal_async()
            )
        end = time.monotonic() + CANCEL_SECONDS
        while self.sent is not None and time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.1)


def main() -> int:
    """Run until all parts are handed over."""
    # The handlers of rclpy would end the connection before the goal is canceled.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = HandOver()
    try:
        while not node.done:
            rclpy.spin_once(node, timeout_sec=0.5)
        node.say('all parts are handed over')
    except (KeyboardInterrupt, ExternalShutdownException):
        node.cancel()
        node.say('interrupted')
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
