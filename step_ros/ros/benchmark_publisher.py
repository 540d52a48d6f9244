"""Cameras for a benchmark, as a program: images of noise at an exact rate, for little effort.

A node beside it on two cores shall have the machine to itself, so an image is serialised once and
each copy differs in its stamp alone. When it ends it writes what it sent, and how late.
"""

import json
import sys
import threading
import time
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image

from step_ros.ros.large_images import make_room_for_large_images
from step_ros.ros.node_main import run_node
from step_ros.ros.publishing_schedule import PublishingSchedule
from step_ros.ros.qos import image_qos
from step_ros.ros.serialised_image import SerialisedImage
from step_ros.stream.grid import NANOSECONDS
from step_ros.stream.percentiles import percentiles

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
            late_ms=percentiles(self._late_ms),
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
