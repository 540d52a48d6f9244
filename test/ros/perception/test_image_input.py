# SPDX-License-Identifier: Apache-2.0
"""Cameras from parameters, and frames from serialised messages."""

import array

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from step_ros.images.errors import FrameError
from step_ros.ros.conversion import to_time
from step_ros.ros.images import from_rgb, to_compressed
from step_ros.ros.perception.image_input import Camera, choose_cameras, read_frame

STAMP_NS = 1_700_000_000_123_456_789
RAW = Camera(name='front', topic='/front', compressed=False)
COMPRESSED = Camera(name='front', topic='/front/compressed', compressed=True)


def picture():
    return np.random.default_rng(4).integers(0, 256, (24, 32, 3), np.uint8)


def messages():
    header = Header(stamp=to_time(STAMP_NS), frame_id='optical')
    return [
        (RAW, from_rgb(picture(), 'bgr8', header)),
        (COMPRESSED, to_compressed(picture(), header, 'png')),
    ]


def test_transport_follows_topic_name_or_parameter():
    topics = ['/a/image_raw', '/b/image_raw/compressed']
    names = ['a', 'b']
    assert choose_cameras(names, topics, 'auto') == [
        Camera(name='a', topic=topics[0], compressed=False),
        Camera(name='b', topic=topics[1], compressed=True),
    ]
    assert [c.compressed for c in choose_cameras(names, topics, 'compressed')] == [True, True]
    assert [c.compressed for c in choose_cameras(names, topics, 'raw')] == [False, False]


@pytest.mark.parametrize(
    ('names', 'topics', 'expected'),
    [
        ([], [], 'at least one'),
        (['a'], ['/x', '/y'], 'one topic for each camera'),
        (['a', 'a'], ['/x', '/y'], 'cameras='),
        (['a', 'b'], ['/x', '/x'], 'image_topics='),
        (['a', ''], ['/x', '/y'], 'cameras='),
    ],
)
def test_contradicting_camera_parameters_are_rejected(names, topics, expected):
    with pytest.raises(ValueError, match=expected):
        choose_cameras(names, topics, 'auto')


# The package reads plain CDR; rclpy reads XCDR2, whose bytes are the same for these messages.
@pytest.mark.parametrize('encapsulation', [b'\0\1', b'\0\7'])
@pytest.mark.parametrize(('camera', 'message'), messages())
def test_serialised_message_becomes_a_frame(camera, message, encapsulation):
    serialised = encapsulation + serialize_message(message)[2:]
    frame = read_frame(serialised, camera, received_ns=17)
    assert (frame.camera, frame.stamp_ns, frame.frame_id) == ('front', STAMP_NS, 'optical')
    assert frame.received_ns == 17
    assert np.array_equal(frame.load(), picture())


@pytest.mark.parametrize(('camera', 'message'), messages())
@pytest.mark.parametrize('head', [b'', b'\0\x55\0\0', b'\0\7\0\0'])
def test_unreadable_message_is_rejected_with_the_reason(camera, message, head):
    with pytest.raises(FrameError, match='rclpy cannot read it') as caught:
        read_frame(head + b'12345', camera, received_ns=17)
    assert caught.value.cause == 'malformed'


@pytest.mark.parametrize('camera', [RAW, COMPRESSED])
def test_empty_message_is_rejected(camera):
    with pytest.raises(FrameError, match='empty message') as caught:
        read_frame(b'', camera, received_ns=17)
    assert caught.value.cause == 'malformed'


def test_damaged_picture_is_rejected_on_load():
    broken = CompressedImage(format='jpeg', data=array.array('B', b'\xff\xd8 no end'))
    frame = read_frame(serialize_message(broken), COMPRESSED, received_ns=17)
    with pytest.raises(FrameError) as caught:
        frame.load()
    assert caught.value.cause == 'undecodable'


def test_16uc1_is_grey_where_the_parameter_says_so():
    message = from_rgb(picture(), 'mono16', Header(stamp=to_time(STAMP_NS)))
    expected = read_frame(serialize_message(message), RAW, received_ns=17).load()
    message.encoding = '16UC1'
    serialised = serialize_message(message)
    (grey,) = choose_cameras(['front'], ['/front'], 'auto', grey_16uc1=True)
    assert np.array_equal(read_frame(serialised, grey, received_ns=17).load(), expected)
    with pytest.raises(FrameError) as caught:
        read_frame(serialised, RAW, received_ns=17).load()
    assert caught.value.cause == 'unknown_encoding'
