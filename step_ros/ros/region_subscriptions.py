"""Regions of interest from topics: where the person is in each camera's image."""

from collections.abc import Callable, Mapping

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import RegionOfInterest

from step_ros.ros.qos import NO_SUBSCRIPTION_EVENTS
from step_ros.ros.topics import check_topic
from step_ros.stream.frame import Crop
from step_ros.stream.grid import NANOSECONDS
from step_ros.stream.region import Region, crop_box

# Only the newest one counts; best effort takes from every publisher.
QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def choose_region_topics(cameras: list[str], topics: list[str]) -> dict[str, str]:
    """Join the parameters `cameras` and `region_topics`; a camera without one is left out.

    Raises:
        ValueError: There are topics, but not one for each camera, or a name is not valid.
    """
    # A ROS parameter cannot be an empty list; a single empty name stands for none.
    if topics == ['']:
        return {}
    if len(topics) != len(cameras):
        raise ValueError(
            f'parameters cameras={cameras} and region_topics={topics}: expected one topic for '
            'each camera, empty for a camera without regions'
        )
    for topic in filter(None, topics):
        check_topic('region_topics', topic)
    return {camera: topic for camera, topic in zip(cameras, topics, strict=True) if topic}


class RegionSubscriptions:
    """Keeps each camera's newest region, as long as it is fresh.

    A `RegionOfInterest` has no stamp: what counts is when it came, by the node's clock.

    Args:
        node: The node.
        topics: Topic of each camera that has regions.
        shape: Height and width that the encoder takes.
        margin: Room around a region, as a share of its size.
        timeout: Seconds for which a region holds; then the whole image is looked at again.
    """

    def __init__(
        self,
        node: Node,
        topics: Mapping[str, str],
        *,
        shape: tuple[int, int],
        margin: float,
        timeout: float,
    ) -> None:
        self._node, self._shape, self._margin = node, shape, margin
        self._timeout_ns = round(timeout * NANOSECONDS)
        self._newest: dict[str, tuple[Region, int]] = {}
        self._subscriptions: list[Subscription] = [
            node.create_subscription(
                RegionOfInterest,
                topic,
                self._taker(camera),
                QOS,
                event_callbacks=NO_SUBSCRIPTION_EVENTS,
            )
            for camera, topic in topics.items()
        ]

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def crop(self, camera: str) -> Crop | None:
        """Return what tells which part of an image to look at now; None: all of it."""
        newest = self._newest.get(camera)
        # One from the future is from before time jumped back.
        if newest is None or not 0 <= self._now_ns() - newest[1] <= self._timeout_ns:
            return None
        region = newest[0]
        return lambda size: crop_box(size, region, margin=self._margin, shape=self._shape)

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _taker(self, camera: str) -> Callable[[RegionOfInterest], None]:
        def take(message: RegionOfInterest) -> None:
            region = Region(
                left=message.x_offset,
                top=message.y_offset,
                width=message.width,
                height=message.height,
            )
            self._newest[camera] = region, self._now_ns()

        return take
