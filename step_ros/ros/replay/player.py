# SPDX-License-Identifier: Apache-2.0
"""The bag player, as a program: publishes the images of a bag (rosbag2), and `/clock`.

It needs no rosbag2. It publishes messages as they are stored and decodes nothing.
"""

import math
import threading
import time
from itertools import chain
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.storage import COMPRESSED_IMAGE
from step_ros.resources import Value
from step_ros.ros.conversion import to_time
from step_ros.ros.parameters import Parameter, declare_parameters, parameter_values
from step_ros.ros.process_setup import make_room_for_large_images
from step_ros.ros.qos import SETTLE_SECONDS, image_qos
from step_ros.ros.runner import run_node
from step_ros.streaming.grid import NANOSECONDS

PARAMETERS = (
    Parameter(name='bag', description='The bag: a folder, or a single .mcap or .db3 file.'),
    Parameter(
        name='topics', description='Image topics to play. A single empty name: all of the bag.'
    ),
    Parameter(
        name='rate',
        description='Speed of playing; 1 as recorded.',
        minimum=0.01,
        maximum=100.0,
    ),
)
DEFAULTS: dict[str, Value] = {'bag': '', 'topics': [''], 'rate': 1.0}

# The longest time between two messages on `/clock`, in seconds.
CLOCK_PERIOD = 0.01
# Seconds to wait for subscriptions to acknowledge the last images.
ACKNOWLEDGE_SECONDS = 10


class BagPlayer(Node):
    """Publishes the images of a bag on their topics, reliably, at the times of their recording.

    The player starts when each topic has a subscription, so that no image is lost at the start.
    `/clock` is the time of recording; it stands still before the first image.

    Args:
        options: For `rclpy.node.Node`.

    Raises:
        BagError: The bag cannot be played.
        ParameterException: A parameter has a value that it does not take.
    """

    def __init__(self, **options: Any) -> None:
        # No `use_sim_time` here: this node makes the simulated time.
        super().__init__('bag_player', start_parameter_services=False, **options)
        declare_parameters(self, PARAMETERS, DEFAULTS)
        values = parameter_values(self, PARAMETERS)
        bag = BagReader(values['bag'])
        # A ROS parameter cannot be an empty list: a single empty name stands for all topics.
        topics = tuple(topic for topic in values['topics'] if topic) or bag.image_topics
        if not topics:
            raise BagError(bag.path, 'it has no topic with images')
        self._messages = bag.stored_images(topics)
        self._rate = float(values['rate'])
        self._now_ns = 0
        self._clock_publisher = self.create_publisher(Clock, '/clock', 10)
        qos = image_qos(ReliabilityPolicy.RELIABLE)
        self._image_publishers = {
            topic: self.create_publisher(
                CompressedImage if bag.topics[topic].type == COMPRESSED_IMAGE else Image,
                topic,
                qos,
            )
            for topic in topics
        }

    def play(self, stop: threading.Event) -> int:
        """Play the bag once.

        Args:
            stop: Set to end early.

        Returns:
            Number of published images.

        Raises:
            BagError: The bag is damaged or cut short.
        """
        first = next(self._messages, None)
        if first is None or not self._wait_for_subscriptions(first.log_ns, stop):
            return 0
        self.get_logger().info('playing ' + ', '.join(self._image_publishers))
        began, played = time.monotonic(), 0
        for message in chain([first], self._messages):
            due = began + (message.log_ns - first.log_ns) / NANOSECONDS / self._rate
            while (left := due - time.monotonic()) > 0:
                if stop.is_set():
                    return played
                # The clock goes on between two images.
                self._publish_clock(message.log_ns - round(left * self._rate * NANOSECONDS))
                time.sleep(min(left, CLOCK_PERIOD))
            self._publish_clock(message.log_ns)
            self._image_publishers[message.topic].publish(message.data)
            played += 1
        for publisher in self._image_publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_SECONDS))
        return played

    def _wait_for_subscriptions(self, first_ns: int, stop: threading.Event) -> bool:
        """Wait until every topic has a subscription; return False if `stop` was set before."""
        publishers = self._image_publishers.values()
        settled = math.inf
        while time.monotonic() < settled:
            if stop.is_set():
                return False
            if math.isinf(settled) and all(each.get_subscription_count() for each in publishers):
                settled = time.monotonic() + SETTLE_SECONDS
            self._publish_clock(first_ns)
            time.sleep(CLOCK_PERIOD)
        return True

    def _publish_clock(self, now_ns: int) -> None:
        # Rounding, or stored messages out of order, must not turn the clock back.
        self._now_ns = max(self._now_ns, now_ns)
        self._clock_publisher.publish(Clock(clock=to_time(self._now_ns)))


def main(args: list[str] | None = None) -> int:
    """Play a bag until it ends, or until interrupted.

    Returns:
        0; or 1 after one line with the error.
    """
    make_room_for_large_images()
    return run_node('bag_player', BagPlayer, _run, args=args, expected=(BagError,))


def _run(node: BagPlayer, stop: threading.Event) -> None:
    played = node.play(stop)
    node.get_logger().info(f'played {played} images')
