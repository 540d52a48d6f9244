# SPDX-License-Identifier: Apache-2.0
"""The bag player over real DDS: images as recorded, and the clock."""

import itertools

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from step_ros.io.bags.reader import BagReader
from step_ros.ros.conversion import to_nanoseconds

FRONT, SIDE = '/front/image_raw', '/side/image_raw/compressed'
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_every_image_arrives_as_it_was_recorded(ros, start_node, put_bag, tmp_path, storage):
    bag = put_bag(tmp_path / 'bag', FRONT, SIDE, storage=storage)
    front = ros.listen(Image, FRONT, RELIABLE)
    side = ros.listen(CompressedImage, SIDE, RELIABLE)
    times = ros.listen(Clock, '/clock', RELIABLE)
    player = start_node('bag_player', bag=str(bag), rate=2.0)
    ros.spin_until(lambda: not player.running)
    assert player.wait() == 0
    assert 'played 24 images' in player.output
    recorded = list(BagReader(bag).frames())
    for topic, images in ((FRONT, front), (SIDE, side)):
        expected = [frame for frame in recorded if frame.camera == topic]
        assert [to_nanoseconds(image.header.stamp) for image in images] == [
            frame.stamp_ns for frame in expected
        ]
        assert {image.header.frame_id for image in images} == {'optical'}
    assert bytes(front[3].data) == expected_bytes(recorded, FRONT, 3)
    published_ns = [to_nanoseconds(each.clock) for each in times]
    assert all(earlier <= later for earlier, later in itertools.pairwise(published_ns))
    assert (published_ns[0], published_ns[-1]) == (
        recorded[0].received_ns,
        recorded[-1].received_ns,
    )
    # The clock goes on between images.
    assert len(set(published_ns)) > 2 * len({frame.received_ns for frame in recorded})


def expected_bytes(frames, topic, number):
    return [frame for frame in frames if frame.camera == topic][number].load().tobytes()


def test_without_a_subscription_it_waits_until_interrupted(start_node, put_bag, tmp_path, ros):
    times = ros.listen(Clock, '/clock', RELIABLE)
    bag = put_bag(tmp_path / 'bag', FRONT)
    player = start_node('bag_player', bag=str(bag), topics=[FRONT])
    ros.spin_until(lambda: len(times) > 50)
    # The clock stands still until the first image.
    assert {to_nanoseconds(each.clock) for each in times} == {
        BagReader(bag).first_frame(FRONT).received_ns
    }
    assert player.end() == 0
    assert 'played 0 images' in player.output


@pytest.mark.parametrize(
    ('parameters', 'error'),
    [
        ({'bag': '/nowhere'}, 'there is no such bag'),
        ({'topics': ['/other']}, "topic '/other': there is no such topic"),
        ({'rate': 0.0}, 'rate'),
    ],
)
def test_a_wrong_parameter_is_one_error_line(start_node, put_bag, tmp_path, parameters, error):
    bag = put_bag(tmp_path / 'bag', FRONT)
    player = start_node('bag_player', **{'bag': str(bag), **parameters})
    assert player.wait() == 1
    assert error in player.output
    assert 'Traceback' not in player.output
