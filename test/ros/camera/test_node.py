# SPDX-License-Identifier: Apache-2.0
"""The camera node in its own process, over real DDS."""

import signal

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from step_ros.io.video import VideoWriter
from step_ros.msg import ActionEvent
from step_ros.ros.images import to_rgb
from step_ros.tabletop.simulator import Tabletop

SECOND = 1_000_000_000
SMALL = {'width': 160, 'rate': 20.0}
LATCHED = QoSProfile(depth=256, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def stamp_ns(stamp):
    return stamp.sec * SECOND + stamp.nanosec


def stamps(messages):
    return np.array([stamp_ns(message.header.stamp) for message in messages])


def write_video(path, count, rate):
    with VideoWriter(path, size=(64, 48), rate=rate) as writer:
        for index in range(count):
            image = np.full((48, 64, 3), 10 * index, np.uint8)
            writer.write(image, round(index * SECOND / rate))


def test_images_are_on_an_exact_grid_and_on_time(ros, start_node):
    images = ros.listen(Image, 'image_raw', qos_profile_sensor_data)
    process = start_node('camera_node', frame_id='optical', **SMALL)
    ros.spin_until(lambda: len(images) >= 30)
    # A busy machine may skip or lose images; those that arrive are on the grid.
    steps = np.diff(stamps(images))
    assert np.all(steps % (SECOND // 20) == 0)
    assert steps.min() == SECOND // 20
    # An image is never published before its stamp, and not long after.
    now = ros.node.get_clock().now().nanoseconds
    assert 0 <= now - stamps(images)[-1] < 5 * SECOND
    assert images[-1].header.frame_id == 'optical'
    assert (images[-1].width, images[-1].height, images[-1].encoding) == (160, 120, 'rgb8')
    assert process.end(signal.SIGINT) == 0
    assert 'Traceback' not in process.output


def test_truth_brackets_frames_and_reaches_late_subscribers(ros, start_node):
    images = ros.listen(Image, 'image_raw', qos_profile_sensor_data)
    start_node('camera_node', camera='bench', frame_id='optical', **SMALL)
    ros.spin_until(lambda: images)
    zero_ns = stamps(images)[0]
    # A late subscriber also gets earlier events.
    truth = ros.listen(ActionEvent, 'truth', LATCHED)

    def received(kind):
        return [event for event in truth if event.type == kind and event.task == 'action']

    # An action with images: on a busy machine the first action may be over before the first image.
    def seen_whole():
        return [end for end in received(ActionEvent.END) if stamp_ns(end.start_stamp) >= zero_ns]

    ros.spin_until(seen_whole, timeout=60)
    end = seen_whole()[0]
    ros.spin_until(lambda: received(ActionEvent.START)[-1].start_stamp != end.start_stamp)
    assert {event.task for event in truth} == {'action', 'verb', 'object'}
    starts = received(ActionEvent.START)
    assert stamp_ns(starts[0].header.stamp) <= zero_ns
    place = [start.start_stamp for start in starts].index(end.start_stamp)
    assert end.label == starts[place].label
    assert end.start_stamp == starts[place].header.stamp
    assert stamp_ns(end.header.stamp) == stamp_ns(starts[place + 1].header.stamp)
    began, ended = stamp_ns(end.start_stamp), stamp_ns(end.header.stamp)
    assert np.any((stamps(images) >= began) & (stamps(images) < ended))
    # The next action starts only with its first frame.
    ros.spin_until(lambda: stamps(images)[-1] >= ended)
    assert (end.camera, end.header.frame_id, end.score) == ('bench', 'optical', 1.0)


def test_compressed_and_reliable(ros, start_node):
    images = ros.listen(CompressedImage, 'image_raw/compressed', 10)
    process = start_node('camera_node', transport='compressed', reliability='reliable', **SMALL)
    ros.spin_until(lambda: len(images) >= 3)
    assert images[0].format == 'rgb8; jpeg compressed bgr8'
    assert to_rgb(images[0]).shape == (120, 160, 3)
    assert process.end(signal.SIGTERM) == 0
    assert 'Traceback' not in process.output


def test_large_images_are_not_lost(ros, start_node):
    images = ros.listen(Image, 'image_raw', qos_profile_sensor_data)
    start_node('camera_node', encoding='bgr8', width=640, rate=10.0)
    ros.spin_until(lambda: len(images) >= 12)
    assert len(images[0].data) == 640 * 480 * 3
    # A slow machine skips frames, but none are lost in transport.
    assert np.all(np.diff(stamps(images)) % (SECOND // 10) == 0)


def test_video_without_loop_ends_the_node(ros, start_node, tmp_path):
    path = tmp_path / 'grey.mp4'
    write_video(path, 10, 20.0)
    images = ros.listen(Image, 'image_raw', 10)
    process = start_node(
        'camera_node',
        source=str(path),
        loop=False,
        rate=0.0,
        width=0,
        reliability='reliable',
        start_delay=4.0,
    )
    ros.spin_until(lambda: not process.running)
    assert process.wait() == 0
    assert 'the video ended after' in process.output
    # The first images may have been sent during discovery.
    assert images
    assert np.diff(stamps(images)) % (SECOND / 20) == pytest.approx(0, abs=1e6)
    levels = [to_rgb(image).mean() for image in images]
    assert levels[-1] == pytest.approx(90, abs=4)
    assert np.diff(levels) == pytest.approx(np.diff(stamps(images)) * 10 / (SECOND / 20), abs=8)


def test_camera_follows_simulated_time_and_its_jump_back(ros, start_node):
    images = ros.listen(Image, 'image_raw', qos_profile_sensor_data)
    truth = ros.listen(ActionEvent, 'truth', LATCHED)
    clock = ros.node.create_publisher(Clock, '/clock', 10)
    process = start_node('camera_node', use_sim_time=True, **SMALL)

    def run_clock(from_s, until):
        """Publish simulated time in steps of 25 ms, until the condition holds."""
        for index in range(800):
            now = round((from_s + 0.025 * index) * SECOND)
            clock.publish(Clock(clock=Time(sec=now // SECOND, nanosec=now % SECOND)))
            ros.spin(0.02)
            if until():
                return now
        raise AssertionError('the camera does not follow simulated time')

    now = run_clock(1000.0, lambda: len(images) >= 5)
    assert stamps(images).min() >= 1000 * SECOND
    assert stamps(images).max() <= now
    assert np.all(np.diff(stamps(images)) % (SECOND // 20) == 0)
    now = run_clock(500.0, lambda: np.sum(stamps(images) < 600 * SECOND) >= 5)
    back = [image for image in images if stamp_ns(image.header.stamp) < 600 * SECOND]
    assert stamps(back).min() >= 500 * SECOND
    assert stamps(back).max() <= now
    assert np.all(np.diff(stamps(back)) % (SECOND // 20) == 0)
    # The scene restarts, and so does the truth about it.
    first = Tabletop(seed=0, split='test').render(0.0, size=(160, 120))
    assert np.array_equal(to_rgb(back[0]), first)
    ros.spin_until(lambda: sum(stamp_ns(e.header.stamp) < 600 * SECOND for e in truth) >= 3)
    anew = [event for event in truth if stamp_ns(event.header.stamp) < 600 * SECOND][:3]
    assert [event.type for event in anew] == 3 * [ActionEvent.START]
    assert anew[0].header.stamp == back[0].header.stamp
    assert process.end() == 0
    assert 'the clock jumped' in process.output


@pytest.mark.parametrize(
    ('parameters', 'expected'),
    [
        ({'encoding': 'rgb9'}, "encoding is 'rgb9'; expected one of rgb8, bgr8"),
        ({'jpeg_quality': 0}, 'jpeg_quality out of range'),
        ({'rate': 0.0}, 'parameter rate is 0'),
        ({'source': '/nowhere/video.mp4'}, '/nowhere/video.mp4: there is no such file'),
        ({'encoding': 'yuv422', 'width': 161}, 'width 161 is odd'),
    ],
)
def test_bad_parameter_is_reported_in_one_line(start_node, parameters, expected):
    process = start_node('camera_node', **parameters)
    assert process.wait() == 1
    lines = [line for line in process.output.splitlines() if 'INFO' not in line]
    assert len(lines) == 1
    assert expected in lines[0]
