# SPDX-License-Identifier: Apache-2.0
"""The benchmark's publisher over real DDS: rate, stamps and report."""

import time
from itertools import pairwise

import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from step_ros.ros.benchmarks.publisher import PublisherSettings
from step_ros.ros.benchmarks.session import Publisher
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.processes import NodeError, wait_until

TOPICS = ['/left/image_raw', '/right/image_raw']


@pytest.fixture
def publisher(tmp_path):
    started = []

    def start(**options):
        settings = PublisherSettings(**{'rate': 20.0, 'width': 64, 'height': 48, **options})
        started.append(Publisher(settings, folder=tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.process.stop()


def listen(ros, topic):
    return ros.listen(Image, topic, qos_profile_sensor_data)


def test_the_report_counts_the_images_that_arrive(publisher, ros):
    received = {topic: listen(ros, topic) for topic in TOPICS}
    process = publisher(topics=TOPICS)
    ros.spin_until(lambda: all(len(images) > 10 for images in received.values()))
    now_ns = time.time_ns()
    report = process.stop()
    ros.spin(0.5)
    assert report.sent == {topic: len(images) for topic, images in received.items()}
    assert report.total == sum(report.sent.values())
    assert report.late_ms['p50'] < 50
    stamps = [to_nanoseconds(image.header.stamp) for image in received[TOPICS[0]]]
    assert stamps == sorted(stamps)
    assert all(now_ns - 30e9 < stamp < now_ns + 30e9 for stamp in stamps)


def test_exact_stamps_are_a_period_apart(publisher, ros):
    received = listen(ros, TOPICS[0])
    publisher(topics=TOPICS[:1], exact_stamps=True)
    ros.spin_until(lambda: len(received) > 10)
    stamps = [to_nanoseconds(image.header.stamp) for image in received]
    steps = [after - before for before, after in pairwise(stamps)]
    # An image that was skipped, or lost on the way, leaves whole periods.
    assert all(step % 50_000_000 in (0, 1, 49_999_999) for step in steps)
    assert min(steps) == pytest.approx(50_000_000, abs=1)


def test_stamps_jump_forward_and_back(publisher, ros):
    received = listen(ros, TOPICS[0])
    publisher(topics=TOPICS[:1], jump_every=0.5, jump=30.0)
    ros.spin_until(lambda: len(received) > 40)
    stamps = [to_nanoseconds(image.header.stamp) / 1e9 for image in received]
    steps = [after - before for before, after in pairwise(stamps)]
    assert max(steps) > 25
    assert min(steps) < -25


def test_wrong_settings_end_the_program_with_an_error(publisher):
    process = publisher(topics=TOPICS, rate=0.0)
    with pytest.raises(NodeError, match='2 cameras at 0 Hz'):
        wait_until(lambda: process.publishing, [process.process], 'the first image')
    with pytest.raises(NodeError, match='exit code 1'):
        process.stop()
