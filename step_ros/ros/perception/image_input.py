# SPDX-License-Identifier: Apache-2.0
"""The inputs of the perception node: images, and regions of interest in them.

`choose_cameras` and `choose_region_topics` read the parameters. `ImageSubscriptions` hands on
frames; its reliability follows that of the publishers. `RegionSubscriptions` keeps each camera's
newest region, for example from a person detector.
"""

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

# Seconds between two checks of the publishers' reliability.
CHECK_PERIOD = 1.0

# QoS of region subscriptions: only the newest region counts, and best effort receives from every
# publisher.
REGION_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera and its topic.

    Attributes:
        name: Its name in the hypotheses.
        topic: Its image topic.
        compressed: Whether the topic carries `sensor_msgs/CompressedImage`.
        grey_16uc1: Whether its `16UC1` images are grey; otherwise they are refused as depth.
    """

    name: str
    topic: str
    compressed: bool
    grey_16uc1: bool = False


def choose_cameras(
    names: Sequence[str], topics: Sequence[str], transport: str, *, grey_16uc1: bool = False
) -> list[Camera]:
    """Return the cameras in the parameters that are named like the arguments.

    Raises:
        ValueError: The parameters contradict each other, or a topic's name is not valid.
    """
    if not names or len(names) != len(topics):
        raise ValueError(
            f'parameters cameras={list(names)} and image_topics={list(topics)}: expected one '
            'topic for each camera, and at least one'
        )
    for parameter, values in (('cameras', names), ('image_topics', topics)):
        if len(set(values)) != len(values) or not all(values):
            raise ValueError(
                f'parameter {parameter}={list(values)}: a name is empty or occurs twice'
            )
    if FUSED in names:
        raise ValueError(
            f'parameter cameras={list(names)}: the name {FUSED!r} is reserved for fused cameras'
        )
    for topic in topics:
        check_topic('image_topics', topic)
    return [
        Camera(
            name=name,
            topic=topic,
            compressed=transport == 'compressed'
            or (transport == 'auto' and topic.endswith('/compressed')),
            grey_16uc1=grey_16uc1,
        )
        for name, topic in zip(names, topics, strict=True)
    ]


def read_frame(message: bytes, camera: Camera, *, received_ns: int) -> Frame:
    """Return a serialised image message as a frame.

    Its pixels are converted when `Frame.load` is called. rclpy reads the messages that are not in
    plain CDR.

    Args:
        message: The serialised message.
        camera: Its camera.
        received_ns: When it arrived, in nanoseconds of the monotonic clock.

    Raises:
        FrameError: The message is damaged (`malformed`).
    """
    if not message:
        # Fast DDS delivers an empty message when a publisher is destroyed while it sends.
        # Deserialising that would never return.
        raise FrameError('malformed', 'the middleware delivered an empty message')
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
        load=lambda: to_rgb(fields, grey_16uc1=camera.grey_16uc1),
    )


def _read_by_rclpy(
    message: bytes, camera: Camera, received_ns: int, unread: EncapsulationError
) -> Frame:
    try:
        image = deserialize_message(message, CompressedImage if camera.compressed else Image)
    except Exception as error:  # each middleware raises its own
        raise FrameError('malformed', f'{unread}; rclpy cannot read it: {error}') from error
    return Frame(
        camera=camera.name,
        stamp_ns=to_nanoseconds(image.header.stamp),
        frame_id=image.header.frame_id,
        received_ns=received_ns,
        load=lambda: to_rgb(image, grey_16uc1=camera.grey_16uc1),
    )


class ImageSubscriptions:
    """Subscribes to the active cameras. A callback reads a message's stamp and hands on a `Frame`.

    Args:
        node: The node.
        cameras: All cameras.
        active: Names of the cameras to subscribe to.
        reliability: `auto`, `best_effort` or `reliable`.
        crop: Returns a function that chooses the region of a camera's image; see `Frame.crop`.
        on_frame: Called for each frame, in the executor's thread.
        on_error: Called for each message that cannot be read, with the camera's name, in the
            executor's thread.
    """

    def __init__(
        self,
        node: Node,
        cameras: Sequence[Camera],
        *,
        active: frozenset[str],
        reliability: str,
        crop: Callable[[str], Crop | None],
        on_frame: Callable[[Frame], None],
        on_error: Callable[[str, FrameError], None],
    ) -> None:
        self._node, self._cameras, self._reliability = node, cameras, reliability
        self._active, self._crop = active, crop
        self._on_frame, self._on_error = on_frame, on_error
        self._newest_ns: dict[str, int] = {}
        self._subscriptions: dict[str, tuple[Subscription, ReliabilityPolicy]] = {}
        self._match_publishers()
        # By the steady clock: publishers come and go while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(CHECK_PERIOD, self._match_publishers, clock=steady)

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_timer(self._timer)
        for subscription, _ in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        # An executor may keep a destroyed entity, and with it this object, until it spins again.
        # That must not keep the worker and the memory of all cameras.
        self._on_frame, self._on_error, self._crop = _ignore, _ignore, _ignore
        del self._timer

    def set_active(self, active: frozenset[str]) -> None:
        """Subscribe to these cameras, and unsubscribe from all others."""
        self._active = active
        for camera in self._cameras:
            if camera.name not in active and camera.name in self._subscriptions:
                self._node.destroy_subscription(self._subscriptions.pop(camera.name)[0])
        self._match_publishers()

    def newest_ns(self, camera: str) -> int | None:
        """Return the stamp of a camera's newest message; None before the first."""
        return self._newest_ns.get(camera)

    def is_active(self, camera: str) -> bool:
        """Return whether the node subscribes to a camera."""
        return camera in self._active

    def problem(self, camera: str) -> str:
        """Return why a camera may send no image, in words; empty where nothing is wrong."""
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
                'check the parameters image_topics and transport'
            )
        offered = [each.qos_profile.reliability for each in fitting]
        if self._reliability == 'reliable' and ReliabilityPolicy.RELIABLE not in offered:
            return (
                f'topic {topic} is published as best effort, incompatible with '
                "reliability=reliable; set it to 'auto'"
            )
        return ''

    def _match_publishers(self) -> None:
        """Subscribe to the active cameras with the reliability that their publishers offer."""
        for camera in self._cameras:
            if camera.name not in self._active:
                continue
            topic = self._node.resolve_topic_name(camera.topic)
            reliability = choose_reliability(
                self._reliability, offered_reliability(self._node, topic)
            )
            existing = self._subscriptions.get(camera.name)
            if existing and existing[1] == reliability:
                continue
            # The new subscription comes before the old one ends, so that no frame is missed. A
            # frame received by both is dropped as a duplicate.
            self._subscriptions[camera.name] = (self._subscribe(camera, reliability), reliability)
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
                self._on_error(camera.name, error)
                return
            self._newest_ns[camera.name] = frame.stamp_ns
            self._on_frame(replace(frame, crop=self._crop(camera.name)))

        return self._node.create_subscription(
            CompressedImage if camera.compressed else Image,
            camera.topic,
            callback,
            image_qos(reliability),
            raw=True,
            event_callbacks=NO_SUBSCRIPTION_EVENTS,
            # Without RELIABILITY: the parameter `reliability` sets it.
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.DURABILITY)
            ),
        )


def _ignore(*_: object) -> None:
    """Take the place of a callback once nothing may call it any more."""


def choose_region_topics(cameras: list[str], topics: list[str]) -> dict[str, str]:
    """Return the region topic of each camera that has one, by the camera's name.

    Raises:
        ValueError: The number of topics is not that of the cameras, or a name is not valid.
    """
    # Not every ROS has empty lists: a single empty name stands for no topics, too.
    if topics in ([], ['']):
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
    """Keeps each camera's newest region until it times out.

    A `RegionOfInterest` has no stamp: its age counts from its arrival, by the node's clock.

    Args:
        node: The node.
        topics: Region topic by camera name.
        shape: Height and width of the encoder's input, in pixels.
        margin: Margin on each side of a region, as a share of its size.
        timeout: Seconds until a region times out; then the whole image is used again.
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
                self._callback(camera),
                REGION_QOS,
                event_callbacks=NO_SUBSCRIPTION_EVENTS,
            )
            for camera, topic in topics.items()
        ]

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        # Each subscription refers to this object by its callback.
        self._subscriptions.clear()

    def crop(self, camera: str) -> Crop | None:
        """Return the function that maps an image's size to the box to use; None for all of it."""
        newest = self._newest.get(camera)
        # A negative age: the clock jumped back after the region arrived.
        if newest is None or not 0 <= self._now_ns() - newest[1] <= self._timeout_ns:
            return None
        region = newest[0]
        return lambda size: crop_box(size, region, margin=self._margin, shape=self._shape)

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _callback(self, camera: str) -> Callable[[RegionOfInterest], None]:
        def callback(message: RegionOfInterest) -> None:
            region = Region(
                left=message.x_offset,
                top=message.y_offset,
                width=message.width,
                height=message.height,
            )
            self._newest[camera] = region, self._now_ns()

        return callback
