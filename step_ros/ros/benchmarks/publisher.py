# SPDX-License-Identifier: Apache-2.0
"""The cameras of a benchmark, as a program: publishes images of noise at an exact rate.

It leaves the cores to the perception node beside it: one image is serialised once
(`SerialisedImage`), and each copy differs only in its stamp. `PublishingSchedule` says when each
camera publishes. At its end the program writes a `PublisherReport`.
"""

import json
import struct
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from step_ros.reporting.percentiles import percentiles_and_max
from step_ros.ros.images import from_rgb
from step_ros.ros.process_setup import make_room_for_large_images
from step_ros.ros.qos import SETTLE_SECONDS, image_qos
from step_ros.ros.runner import run_node
from step_ros.streaming.grid import NANOSECONDS

# The log line before the first image, once every topic has a subscription.
PUBLISHING = 'publishing'

# The longest sleep: how late a signal to end is noticed.
_LONGEST_WAIT = 0.1

# CDR begins with two bytes for the encoding, the second of them odd for little endian, and two
# unused bytes. The header follows, and its first field is the stamp.
_STAMP_AT, _STAMP_END = 4, 12


@dataclass(frozen=True, kw_only=True)
class PublisherSettings:
    """Settings of the program; each field is a parameter of it.

    Attributes:
        topics: One topic for each camera.
        rate: Images per second of each camera.
        width: Width of an image in pixels.
        height: Height of an image in pixels.
        exact_stamps: Whether a stamp is the time at which the image is due, as on a camera. If
            not, it is the time of publishing, from which latency can be measured.
        gap_every: Seconds between the ends of two gaps; 0 for no gaps.
        gap: Length of a gap in seconds.
        jump_every: Seconds between two jumps of the stamps, alternately forward and back; 0 for no
            jumps.
        jump: Length of a jump in seconds.
        report: File for the report; empty for none.
    """

    topics: list[str]
    rate: float
    width: int
    height: int
    exact_stamps: bool = False
    gap_every: float = 0.0
    gap: float = 0.0
    jump_every: float = 0.0
    jump: float = 0.0
    report: str = ''

    def parameters(self) -> dict[str, Any]:
        """Return the settings as parameters of the program."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class PublisherReport:
    """Counts and delays of the images that the program sent.

    Attributes:
        sent: Images by topic.
        skipped: Images left out because they were a whole period late.
        late_ms: Delay of the sent images behind their schedule: p50, p95, p99, max.
    """

    sent: dict[str, int]
    skipped: int
    late_ms: dict[str, float]

    @property
    def total(self) -> int:
        """Images of all topics."""
        return sum(self.sent.values())

    @classmethod
    def read(cls, path: Path) -> 'PublisherReport':
        """Read the report that a publisher wrote at its end."""
        return cls(**json.loads(path.read_text(encoding='utf-8')))


class BenchmarkPublisher(Node):
    """Publishes the same image on several topics, best effort, evenly spaced within a period.

    Args:
        options: For `rclpy.node.Node`.

    Raises:
        ParameterException: A parameter is missing or has another type.
        ValueError: The settings make no schedule; see `PublishingSchedule`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('benchmark_publisher', start_parameter_services=False, **options)
        self.settings = settings = self._read_settings()
        qos = image_qos(ReliabilityPolicy.BEST_EFFORT)
        self._image_publishers = [
            self.create_publisher(Image, topic, qos) for topic in settings.topics
        ]
        self._image = SerialisedImage(
            width=settings.width, height=settings.height, frame_id='benchmark'
        )
        self._schedule = PublishingSchedule(
            cameras=len(settings.topics),
            rate=settings.rate,
            gap_every=settings.gap_every,
            gap=settings.gap,
            jump_every=settings.jump_every,
            jump=settings.jump,
        )
        self._sent = [0] * len(settings.topics)
        self._skipped = 0
        self._late_ms = array('f')

    def run(self, stop: threading.Event) -> None:
        """Wait for subscriptions, then publish until `stop` is set."""
        while not all(publisher.get_subscription_count() for publisher in self._image_publishers):
            if stop.is_set():
                return
            time.sleep(_LONGEST_WAIT)
        time.sleep(SETTLE_SECONDS)
        self.get_logger().info(PUBLISHING)
        began_ns, began = time.time_ns(), time.monotonic()
        for image in self._schedule.images():
            if not _wait_until(began + image.due, stop):
                break
            late = time.monotonic() - began - image.due
            if late > self._schedule.period:
                # A camera that falls behind drops the image; it does not send a burst.
                self._skipped += 1
                continue
            self._late_ms.append(1e3 * late)
            now_ns = began_ns + round(image.due * NANOSECONDS)
            if not self.settings.exact_stamps:
                now_ns = time.time_ns()
            stamp_ns = now_ns + round(image.skew * NANOSECONDS)
            self._image_publishers[image.camera].publish(self._image.stamped(stamp_ns))
            self._sent[image.camera] += 1
        # Best effort gives no sign that the last image has arrived.
        time.sleep(SETTLE_SECONDS)

    def report(self) -> PublisherReport:
        """Return the counts and delays so far."""
        return PublisherReport(
            sent=dict(zip(self.settings.topics, self._sent, strict=True)),
            skipped=self._skipped,
            late_ms=percentiles_and_max(self._late_ms),
        )

    def _read_settings(self) -> PublisherSettings:
        parameter_types = {
            list[str]: Parameter.Type.STRING_ARRAY,
            float: Parameter.Type.DOUBLE,
            int: Parameter.Type.INTEGER,
            bool: Parameter.Type.BOOL,
            str: Parameter.Type.STRING,
        }
        fields = PublisherSettings.__annotations__
        for name, field_type in fields.items():
            self.declare_parameter(name, parameter_types[field_type])
        return PublisherSettings(**{name: self.get_parameter(name).value for name in fields})


@dataclass(frozen=True, kw_only=True)
class PublishingSchedule:
    """Times of the images of several cameras at one rate, with gaps and jumps of their clock.

    The cameras take turns at even distances. Three cameras and one gap:

        seconds  0                                      gap_every
        camera   0  1  2  0  1  2  0  1  2  |---- gap ----|  0  1  2 ...

    Attributes:
        cameras: Number of cameras.
        rate: Images per second of each camera.
        gap_every: Seconds between the ends of two gaps; 0 for no gaps.
        gap: Length of a gap in seconds.
        jump_every: Seconds between two jumps of the stamps, alternately forward and back; 0 for no
            jumps.
        jump: Length of a jump in seconds.

    Raises:
        ValueError: There is no camera or no rate, or the gaps leave no time between them.
    """

    cameras: int
    rate: float
    gap_every: float = 0.0
    gap: float = 0.0
    jump_every: float = 0.0
    jump: float = 0.0

    def __post_init__(self) -> None:
        if self.cameras < 1 or self.rate <= 0:
            raise ValueError(
                f'{self.cameras} cameras at {self.rate:g} Hz: expected at least one camera, and a '
                'rate above 0'
            )
        if self.gap_every and not 0 <= self.gap < self.gap_every:
            raise ValueError(
                f'a gap of {self.gap:g} s every {self.gap_every:g} s: expected a gap that is '
                'shorter than the time between two'
            )

    @property
    def period(self) -> float:
        """Seconds between two images of a camera."""
        return 1 / self.rate

    def images(self) -> Iterator['DueImage']:
        """Yield all images in the order of their times, without end."""
        for index in count():
            due = index * self.period / self.cameras
            if self.gap_every and due % self.gap_every >= self.gap_every - self.gap:
                continue
            # Every second stretch of `jump_every` seconds has its stamps ahead.
            skewed = self.jump_every and int(due / self.jump_every) % 2
            yield DueImage(camera=index % self.cameras, due=due, skew=self.jump if skewed else 0.0)


@dataclass(frozen=True, kw_only=True)
class DueImage:
    """An image of the schedule.

    Attributes:
        camera: Index of its camera.
        due: When to publish it, in seconds from the start.
        skew: How far its stamp is ahead of the clock, in seconds.
    """

    camera: int
    due: float
    skew: float


class SerialisedImage:
    """A `sensor_msgs/Image` of noise in `rgb8`, serialised once; a new stamp costs one copy.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        frame_id: Coordinate frame in its header.
    """

    def __init__(self, *, width: int, height: int, frame_id: str) -> None:
        random = np.random.default_rng(0)
        image_hw3 = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        message = bytes(serialize_message(from_rgb(image_hw3, 'rgb8', Header(frame_id=frame_id))))
        self._head, self._rest = message[:_STAMP_AT], message[_STAMP_END:]
        self._format = '<iI' if message[1] & 1 else '>iI'

    def stamped(self, stamp_ns: int) -> bytes:
        """Return the serialised message with a stamp in nanoseconds."""
        stamp = struct.pack(self._format, *divmod(stamp_ns, NANOSECONDS))
        return b''.join((self._head, stamp, self._rest))


def _wait_until(time_s: float, stop: threading.Event) -> bool:
    """Wait until a time of the monotonic clock; return False if `stop` was set before."""
    # Not `stop.wait`: the handler of the signal sets the event in this very thread.
    while not stop.is_set():
        missing = time_s - time.monotonic()
        if missing <= 0:
            return True
        time.sleep(min(missing, _LONGEST_WAIT))
    return False


def main(args: list[str] | None = None) -> int:
    """Publish until interrupted.

    Returns:
        0; or 1 after one line with the error.
    """
    make_room_for_large_images()
    return run_node(
        'benchmark_publisher', BenchmarkPublisher, _run, args=args, expected=(ValueError,)
    )


def _run(node: BenchmarkPublisher, stop: threading.Event) -> None:
    node.run(stop)
    if node.settings.report:
        path = Path(node.settings.report)
        path.write_text(json.dumps(asdict(node.report())), encoding='utf-8')


if __name__ == '__main__':
    sys.exit(main())
