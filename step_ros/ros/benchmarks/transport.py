# SPDX-License-Identifier: Apache-2.0
"""The benchmark of large images through Fast DDS, with and without `config/fastdds.xml`.

The profile gives the publisher shared memory that is large enough for its images.
"""

import os
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image

from step_ros.reporting.markdown import figures_table
from step_ros.reporting.percentiles import percentiles_and_max
from step_ros.ros.benchmarks.publisher import PublisherSettings
from step_ros.ros.benchmarks.session import Publisher
from step_ros.ros.cdr_images import read_image
from step_ros.ros.process_setup import CHOICES
from step_ros.ros.processes import wait_until
from step_ros.ros.qos import image_qos
from step_ros.ros.spinning_node import SpinningNode

TOPIC = '/benchmark/image_raw'
# The package sets no profile if the environment chooses the transports. These are the ones that
# Fast DDS takes by itself.
WITHOUT_PROFILE = {'FASTDDS_BUILTIN_TRANSPORTS': 'DEFAULT'}
COLUMNS = (
    *('size', 'profile', 'rate_hz', 'sent', 'received', 'received_%'),
    *('p50_ms', 'p95_ms', 'p99_ms', 'max_ms'),
)
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class TransportTimes:
    """Figures for images of one size, with or without the profile.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        rate: Images per second.
        profile: Whether the publisher used the profile.
        sent: Images published.
        received: Images that arrived.
        latency_ms: From an image's stamp, set when it is published, to the arrival of the
            serialised image: p50, p95, p99, max.
        late_ms: Delay of the published images behind their schedule.
        skipped: Images that the publisher left out because they were a whole period late.
    """

    width: int
    height: int
    rate: float
    profile: bool
    sent: int
    received: int
    latency_ms: Mapping[str, float]
    late_ms: Mapping[str, float]
    skipped: int

    @property
    def received_percent(self) -> float:
        """Share of the images that arrived, in percent."""
        return 100 * self.received / self.sent if self.sent else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return {**asdict(self), 'received_percent': self.received_percent}


def measure_transport(
    *, width: int, height: int, rate: float, profile: bool, seconds: float, folder: Path
) -> TransportTimes:
    """Publish images from another process and receive them in this one.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        rate: Images per second.
        profile: Whether the publisher uses the profile.
        seconds: How long to measure.
        folder: For logs.

    Raises:
        ValueError: The environment already chooses a transport, with and without the profile.
        NodeError: The publisher ended early.
    """
    for name in CHOICES:
        if os.environ.get(name):
            raise ValueError(
                f'{name} is set in the environment, so the profile would make no difference; '
                'unset it'
            )
    latencies_ms = array('d')

    def take(message: bytes) -> None:
        arrival_ns = time.time_ns()
        latencies_ms.append((arrival_ns - read_image(message).stamp_ns) / 1e6)

    receiver = SpinningNode('benchmark_receiver')
    receiver.node.create_subscription(
        Image, TOPIC, take, image_qos(ReliabilityPolicy.BEST_EFFORT), raw=True
    )
    receiver.start()
    publisher = Publisher(
        PublisherSettings(topics=[TOPIC], rate=rate, width=width, height=height),
        folder=folder,
        environment={} if profile else WITHOUT_PROFILE,
    )
    try:
        wait_until(lambda: publisher.publishing, [publisher.process], 'the first image')
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            publisher.process.check()
            time.sleep(_POLL_SECONDS)
        report = publisher.stop()
    finally:
        publisher.process.stop()
        receiver.close()
    return TransportTimes(
        width=width,
        height=height,
        rate=rate,
        profile=profile,
        sent=report.total,
        received=len(latencies_ms),
        latency_ms=percentiles_and_max(latencies_ms),
        late_ms=report.late_ms,
        skipped=report.skipped,
    )


def transport_table(rows: Sequence[TransportTimes]) -> str:
    """Return the figures as a Markdown table."""
    return figures_table(
        COLUMNS,
        [
            [
                f'{row.width}x{row.height}',
                'yes' if row.profile else 'no',
                f'{row.rate:g}',
                str(row.sent),
                str(row.received),
                f'{row.received_percent:.1f}',
                *(f'{row.latency_ms[key]:.1f}' for key in ('p50', 'p95', 'p99', 'max')),
            ]
            for row in rows
        ],
    )
