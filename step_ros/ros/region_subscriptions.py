"""Regions of interest from topics: where the person is in each camera's image."""

import time
from collections.abc import Callable, Mapping

from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import RegionOfInterest

from step_ros.stream.frame import Crop
from step_ros.stream.grid import NANOSECONDS
from step_ros.stream.region import Region, crop_box

# Only the newest one counts.
DEPTH = 1


def choose_region_topics(cameras: list[str], topics: list[str]) -> dict[str, str]:
    """Join the parameters `cameras` and `region_topics`; a camera without one is left out.

    Raises:
        ValueError: There are topics, but not one for each camera.
    """
    # A ROS parameter cannot be an empty list; a single empty name stands for none.
    if topics == ['']:
        return {}
    if len(topics) != len(cameras):
        raise ValueError(
            f'parameters cameras={cameras} and region_topics={topics}: expected one topic for '
            'each camera, empty for a camera without regions'
        )
    return {camera: topic for camera, topic in zip(cameras, topics, strict=True) if topic}


class RegionSubscriptions:
    """Keeps each camera's newest region, as long as it is fresh.

    A `RegionOfInterest` has no stamp: what counts is when it came, by the steady clock.

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
            node.create_subscription(RegionOfInterest, topic, self._taker(camera), DEPTH)
            for camera, topic in topics.items()
        ]

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def crop(self, camera: str) -> Crop | None:
        """Return what tells which part of an image to look at now; None: all of it."""
        newest = self._newest.get(camera)
        if newest is None or time.monotonic_ns() - newest[1] > self._timeout_ns:
            return None
        region = newest[0]
        return lambda size: crop_box(size, region, margin=self._margin, shape=self._shape)

    def _taker(self, camera: str) -> Callable[[RegionOfInterest], None]:
        def take(message: RegionOfInterest) -> None:
            region = Region(
                left=message.x_offset,
                top=message.y_offset,
                width=message.width,
                height=message.height,
            )
            self._newest[camera] = region, time.monotonic_ns()

        return take
