"""The image subscriptions of a node, kept compatible with what publishers offer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest

from step_ros.images.errors import FrameError
from step_ros.images.region import Region, crop_box
from step_ros.ros.cdr_images import (
    CdrCompressedImage,
    CdrImage,
    EncapsulationError,
    read_compressed_image,
    read_image,
)
from step_ros.ros.conversion import check_topic, to_nanoseconds
from step_ros.ros.images import to_rgb
from step_ros.ros.qos import (
    NO_SUBSCRIPTION_EVENTS,
    choose_reliability,
    image_qos,
    offered_reliability,
)
from step_ros.streaming.frame import Crop, Frame
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.postprocessing.fusion import FUSED

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
    if FUSED in names:
        raise ValueError(f'parameter cameras={list(names)}: {FUSED!r} is what all are together')
    for topic in topics:
        check_topic('image_topics', topic)
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
    if not message:
        # Fast DDS does that when a publisher goes while it sends. Asked to deserialise it, it
        # would try for ever.
        raise FrameError('malformed', 'the middleware handed over an empty message')
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
        cameras: What can be subscribed to.
        active: Names of the cameras that are.
        reliability: `auto`, `best_effort` or `reliable`.
        crop: Tells which part of a camera's image is looked at; see `Frame.crop`.
        take: Called for each frame in the executor's thread.
        refuse: Called likewise for each message that is no frame, with the camera's name.
    """

    def __init__(
        self,
        node: Node,
        cameras: Sequence[Camera],
        *,
        active: frozenset[str],
        reliability: str,
        crop: Callable[[str], Crop | None],
        take: Callable[[Frame], None],
        refuse: Callable[[str, FrameError], None],
    ) -> None:
        self._node, self._cameras, self._reliability = node, cameras, reliability
        self._active, self._crop, self._take, self._refuse = active, crop, take, refuse
        self._newest_ns: dict[str, int] = {}
        self._current: dict[str, tuple[Subscription, ReliabilityPolicy]] = {}
        self._match()
        # Simulated time may stand still, and publishers come and go all the same.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(CHECK_PERIOD, self._match, clock=steady)

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_timer(self._timer)
        for subscription, _ in self._current.values():
            self._node.destroy_subscription(subscription)
        self._current.clear()

    def set_active(self, active: frozenset[str]) -> None:
        """Listen to these cameras and no others, from now on."""
        self._active = active
        for camera in self._cameras:
            if camera.name not in active and camera.name in self._current:
                self._node.destroy_subscription(self._current.pop(camera.name)[0])
        self._match()

    def newest_ns(self, camera: str) -> int | None:
        """Return the stamp of a camera's newest message; None before the first."""
        return self._newest_ns.get(camera)

    def listens(self, camera: str) -> bool:
        """Whether a camera is looked at."""
        return camera in self._active

    def trouble(self, camera: str) -> str:
        """Say in words why nothing may come from a camera; empty where that is not so."""
        wanted = next(each for each in self._cameras if each.name == camera)
        topic = self._node.resolve_topic_name(wanted.topic)
        publishers = self._node.get_publishers_info_by_topic(topic)
        if not publishers:
            return f'no publisher on topic {topic}'
        kind = 'CompressedImage' if wanted.compressed else 'Image'
        fitting = [each for each in publishers if each.topic_type == f'sensor_msgs/msg/{kind}']
        if not fitting:
            return (
                f'topic {topic} carries {publishers[0].topic_type}, not sensor_msgs/msg/{kind}; '
                'look at the parameters image_topics and transport'
            )
        offered = [each.qos_profile.reliability for each in fitting]
        if self._reliability == 'reliable' and ReliabilityPolicy.RELIABLE not in offered:
            return (
                f'topic {topic} is published as best effort, incompatible with '
                "reliability=reliable; set it to 'auto'"
            )
        return ''

    def _match(self) -> None:
        for camera in self._cameras:
            if camera.name not in self._active:
                continue
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
            self._newest_ns[camera.name] = frame.stamp_ns
            self._take(replace(frame, crop=self._crop(camera.name)))

        return self._node.create_subscription(
            CompressedImage if camera.compressed else Image,
            camera.topic,
            callback,
            image_qos(reliability),
            raw=True,
            event_callbacks=NO_SUBSCRIPTION_EVENTS,
            # Reliability follows the publishers; the parameter `reliability` decides it.
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.DURABILITY)
            ),
        )


# ---- Regions of interest from topics: where the person is in each camera's image.

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
