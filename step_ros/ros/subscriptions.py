"""The image subscriptions of a node, kept compatible with what publishers offer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from step_ros.ros.cdr_images import (
    CdrCompressedImage,
    CdrImage,
    EncapsulationError,
    read_compressed_image,
    read_image,
)
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.images import to_rgb
from step_ros.ros.qos import choose_reliability, image_qos, offered_reliability
from step_ros.stream.frame import Frame, FrameError

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


def read_frame(message: bytes, camera: Camera, *, received_ns: int) -> Frame:
    """Read a serialised image message; its pixels are converted only when they are wanted.

    What is not plain CDR is left to rclpy.

    Raises:
        FrameError: The message is damaged (`malformed`).
    """
    fields: CdrImage | CdrCompressedImage
    try:
        fields = read_compressed_image(message) if camera.compressed else read_image(message)
    except EncapsulationError as error:
        return _read_by_rclpy(message, camera, received_ns, error)
    return Frame(
        camera=camera.name,
        stamp_ns=fields.stamp_ns,
        frame_id=fields.frame_id,
        received_ns=received_ns,
        load=lambda: to_rgb(fields),
    )


def _read_by_rclpy(
    message: bytes, camera: Camera, received_ns: int, unread: EncapsulationError
) -> Frame:
    try:
        image = deserialize_message(message, CompressedImage if camera.compressed else Image)
    except Exception as error:  # each middleware has its own
        raise FrameError('malformed', f'{unread}; rclpy cannot read it: {error}') from error
    return Frame(
        camera=camera.name,
        stamp_ns=to_nanoseconds(image.header.stamp),
        frame_id=image.header.frame_id,
        received_ns=received_ns,
        load=lambda: to_rgb(image),
    )


class ImageSubscriptions:
    """Subscribes to every camera; a callback reads a message's stamp and hands on a `Frame`.

    Args:
        node: The node.
        cameras: What to subscribe to.
        reliability: `auto`, `best_effort` or `reliable`.
        take: Called for each frame in the executor's thread.
        refuse: Called likewise for each message that is no frame, with the camera's name.
    """

    def __init__(
        self,
        node: Node,
        cameras: Sequence[Camera],
        *,
        reliability: str,
        take: Callable[[Frame], None],
        refuse: Callable[[str, FrameError], None],
    ) -> None:
        self._node, self._cameras, self._reliability = node, cameras, reliability
        self._take, self._refuse = take, refuse
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
        def callback(message: bytes) -> None:
            received_ns = time.monotonic_ns()
            try:
                frame = read_frame(message, camera, received_ns=received_ns)
            except FrameError as error:
                self._refuse(camera.name, error)
                return
            self._take(frame)

        return self._node.create_subscription(
            CompressedImage if camera.compressed else Image,
            camera.topic,
            callback,
            image_qos(reliability),
            raw=True,
        )
