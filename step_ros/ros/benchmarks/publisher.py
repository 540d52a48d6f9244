"""Cameras for a benchmark, as a program: images of noise at an exact rate, for little effort.

A node beside it on two cores shall have the machine to itself, so an image is serialised once and
each copy differs in its stamp alone. When it ends it writes what it sent, and how late.
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
from step_ros.ros.qos import image_qos
from step_ros.ros.runner import run_node
from step_ros.streaming.grid import NANOSECONDS

# ---- When a benchmark's cameras show which image, and by how much its stamp is wrong.


@dataclass(frozen=True, kw_only=True)
class DueImage:
    """An image that is to be published.

    Attributes:
        camera: Index of its camera.
        due: When, in seconds from the beginning.
        skew: What its stamp is ahead of the clock, in seconds.
    """

    camera: int
    due: float
    skew: float


@dataclass(frozen=True, kw_only=True)
class PublishingSchedule:
    """Cameras at the same rate, evenly apart in time, with gaps and with jumps of their clock.

    Attributes:
        cameras: How many.
        rate: Images of each in a second.
        gap_every: Seconds after which a gap ends; 0 for none.
        gap: Its length in seconds.
        jump_every: Seconds after which the stamps jump, forward and back in turns; 0 for never.
        jump: How far, in seconds.

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
                f'a gap of {self.gap:g} s every {self.gap_every:g} s: expected a shorter one'
            )

    @property
    def period(self) -> float:
        """Seconds between two images of a camera."""
        return 1 / self.rate

    def images(self) -> Iterator[DueImage]:
        """Go through all images, in the order of their times, without end."""
        for index in count():
            due = index * self.period / self.cameras
            if self.gap_every and due % self.gap_every >= self.gap_every - self.gap:
                continue
            skewed = self.jump_every and int(due / self.jump_every) % 2
            yield DueImage(camera=index % self.cameras, due=due, skew=self.jump if skewed else 0.0)


# ---- An image message as it travels: serialised once, stamped many times.

# CDR begins with two bytes for the encoding, of which the second is odd for little endian, and two
# without meaning; then comes the header, and the stamp is its first field.
_STAMP_AT, _STAMP_END = 4, 12


class SerialisedImage:
    """A `sensor_msgs/Image` of noise in `rgb8`; a copy with another stamp costs a copy of bytes.

    Args:
        width: In pixels.
        height: In pixels.
        frame_id: Its coordinate frame.
    """

    def __init__(self, *, width: int, height: int, frame_id: str) -> None:
        random = np.random.default_rng(0)
        image_hw3 = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        message = bytes(serialize_message(from_rgb(image_hw3, 'rgb8', Header(frame_id=frame_id))))
        self._head, self._rest = message[:_STAMP_AT], message[_STAMP_END:]
        self._format = '<iI' if message[1] & 1 else '>iI'

    def stamped(self, stamp_ns: int) -> bytes:
        """Return the message with a stamp in nanoseconds."""
        stamp = struct.pack(self._format, *divmod(stamp_ns, NANOSECONDS))
        return b''.join((self._head, stamp, self._rest))


# What it says when all subscribers are there and the first image follows.
PUBLISHING = 'publishing'

# Best effort gives no sign that the other side is ready, or that it has taken the last image.
SETTLE_SECONDS = 0.5

# How soon it notices that it is to end.
_LONGEST_WAIT = 0.1


@dataclass(frozen=True, kw_only=True)
class PublisherSettings:
    """What is published; each field is a parameter of the program.

    Attributes:
        topics: One for each camera.
        rate: Images of each camera in a second.
        width: Of an image, in pixels.
        height: Likewise.
        exact_stamps: Whether an image is stamped with the time at which it is due, as a camera
            does, or with that of its publishing, which latency is counted from.
        gap_every: Seconds after which a gap ends; 0 for none.
        gap: Its length in seconds.
        jump_every: Seconds after which the stamps jump, forward and back in turns; 0 for never.
        jump: How far, in seconds.
        report: File for what was sent; empty for none.
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
        """Return them as parameters of the program."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class PublisherReport:
    """What was sent.

    Attributes:
        sent: Images by topic.
        skipped: Images that were left out because they were overdue by a whole period.
        late_ms: How long after their time images were sent: p50, p95, p99, max.
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
        """Read what a publisher wrote when it ended."""
        return cls(**json.loads(path.read_text(encoding='utf-8')))


class BenchmarkPublisher(Node):
    """Publishes the same image on some topics, best effort, one after the other in a period.

    Args:
        options: For `rclpy.node.Node`.

    Raises:
        ParameterException: A parameter is missing or of another type.
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
        """Wait for subscribers, then publish until told to end."""
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
                self._skipped += 1
                continue
            self._late_ms.append(1e3 * late)
            now_ns = began_ns + round(image.due * NANOSECONDS)
            if not self.settings.exact_stamps:
                now_ns = time.time_ns()
            stamp_ns = now_ns + round(image.skew * NANOSECONDS)
            self._image_publishers[image.camera].publish(self._image.stamped(stamp_ns))
            self._sent[image.camera] += 1
        time.sleep(SETTLE_SECONDS)

    def report(self) -> PublisherReport:
        """Say what was sent so far."""
        return PublisherReport(
            sent=dict(zip(self.settings.topics, self._sent, strict=True)),
            skipped=self._skipped,
            late_ms=percentiles_and_max(self._late_ms),
        )

    def _read_settings(self) -> PublisherSettings:
        kinds = {
            list[str]: Parameter.Type.STRING_ARRAY,
            float: Parameter.Type.DOUBLE,
            int: Parameter.Type.INTEGER,
            bool: Parameter.Type.BOOL,
            str: Parameter.Type.STRING,
        }
        names = PublisherSettings.__annotations__
        for name, kind in names.items():
            self.declare_parameter(name, kinds[kind])
        return PublisherSettings(**{name: self.get_parameter(name).value for name in names})


def _wait_until(time_s: float, stop: threading.Event) -> bool:
    """Wait for a time of the monotonic clock; False if told to end."""
    # Not by the event: the signal's handler sets it in this very thread.
    while not stop.is_set():
        missing = time_s - time.monotonic()
        if missing <= 0:
            return True
        time.sleep(min(missing, _LONGEST_WAIT))
    return False


def main(args: list[str] | None = None) -> int:
    """Publish until interrupted.

    Returns:
        0; or 1 after one line on what was wrong.
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
