"""The image subscriptions of a node, kept compatible with what publishers offer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.images import to_rgb
from step_ros.ros.qos import choose_reliability, image_qos, offered_reliability
from step_ros.stream.frame import Frame

# How often publishers are looked at, in seconds.
CHECK_PERIOD = 1.0


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera and its topic.

    Attributes:
        name: As it appears in the hypotheses.
        topic: Its image topic.
        compressed: Whether the topic carries `sensor_msgs/CompressedImage`.
    """

    name: str
    topic: str
    compressed: bool


def choose_cameras(names: Sequence[str], topics: Sequence[str], transport: str) -> list[Camera]:
    """Join the parameters `cameras`, `image_topics` and `transport`.

    Raises:
        ValueError: They do not fit together.
    """
    if not names or len(names) != len(topics):
        raise ValueError(
            f'parameters cameras={list(names)} and image_topics={list(topics)}: expected one '
            'topic for each camera, and at least one'
        )
    for what, values in (('cameras', names), ('image_topics', topics)):
        if len(set(values)) != len(values) or not all(values):
            raise ValueError(f'parameter {what}={list(values)}: a name is empty or repeats')
    return [
        Camera(
            name=name,
            topic=topic,
            compressed=transport == 'compressed'
            or (transport == 'auto' and topic.endswith('/compressed')),
        )
        for name, topic in zip(names, topics, strict=True)
    ]


class ImageSubscriptions:
    """Subscribes to every camera; a callback wraps the message in a `Frame` and does no more.

    Args:
        node: The node.
        cameras: What to subscribe to.
        reliability: `auto`, `best_effort` or `reliable`.
        take: Called for each frame in the executor's thread.
    """

    def __init__(
        self,
        node: Node,
        cameras: Sequence[Camera],
        *,
        reliability: str,
        take: Callable[[Frame], None],
    ) -> None:
        self._node, self._cameras, self._reliability, self._take = (
            node,
            cameras,
            reliability,
            take,
        )
        self._current: dict[str, tuple[Subscription, ReliabilityPolicy]] = {}
        self._match()
        self._timer = node.create_timer(CHECK_PERIOD, self._match)

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_timer(self._timer)
        for subscription, _ in self._current.values():
            self._node.destroy_subscription(subscription)
        self._current.clear()

    def _match(self) -> None:
        for camera in self._cameras:
            topic = self._node.resolve_topic_name(camera.topic)
            reliability = choose_reliability(
                self._reliability, offered_reliability(self._node, topic)
            )
            existing = self._current.get(camera.name)
            if existing and existing[1] == reliability:
                continue
            # Subscribe anew before leaving, so that no frame is missed; one that comes twice
            # is dropped as a duplicate.
            self._current[camera.name] = (self._subscribe(camera, reliability), reliability)
            if existing:
                self._node.destroy_subscription(existing[0])
                self._node.get_logger().info(
                    f'camera {camera.name}: subscribed to {topic} as {reliability.name}, '
                    'to match its publishers'
                )

    def _subscribe(self, camera: Camera, reliability: ReliabilityPolicy) -> Subscription:
        def callback(message: Any) -> None:
            self._take(
                Frame(
                    camera=camera.name,
                    stamp_ns=to_nanoseconds(message.header.stamp),
                    frame_id=message.header.frame_id,
                    received_ns=time.monotonic_ns(),
                    load=lambda: to_rgb(message),
                )
            )

        return self._node.create_subscription(
            CompressedImage if camera.compressed else Image,
            camera.topic,
            callback,
            image_qos(reliability),
        )
