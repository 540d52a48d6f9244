# SPDX-License-Identifier: Apache-2.0
"""Serialised images are read as rclpy reads them."""

import array
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from step_ros.images.errors import FrameError
from step_ros.images.messages import raw_to_rgb
from step_ros.ros.cdr_images import EncapsulationError, read_compressed_image, read_image
from step_ros.ros.conversion import to_nanoseconds, to_time
from step_ros.ros.images import from_rgb, to_rgb

UINT32 = st.integers(0, 2**32 - 1)
# A string in a message ends with its first zero byte.
TEXTS = st.text(st.characters(exclude_characters='\0', exclude_categories=['Cs']), max_size=40)
STAMPS = st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1)
DATA = st.binary(max_size=200)


def image(stamp_ns=5, frame_id='', encoding='rgb8', data=b'', **fields):
    header = Header(stamp=to_time(stamp_ns), frame_id=frame_id)
    return Image(header=header, encoding=encoding, data=array.array('B', data), **fields)


def big_endian(message):
    """Serialise an image in big endian, which no middleware here does."""
    out = bytearray(b'\0\0\0\0')

    def number(form, value):
        out.extend(b'\0' * (-len(out) % struct.calcsize(form)))
        out.extend(struct.pack(f'>{form}', value))

    def string(text):
        encoded = text.encode() + b'\0'
        number('I', len(encoded))
        out.extend(encoded)

    number('i', message.header.stamp.sec)
    number('I', message.header.stamp.nanosec)
    string(message.header.frame_id)
    number('I', message.height)
    number('I', message.width)
    string(message.encoding)
    number('B', message.is_bigendian)
    number('I', message.step)
    number('I', len(message.data))
    return bytes(out) + bytes(message.data)


def assert_same(read, message):
    assert read.stamp_ns == to_nanoseconds(message.header.stamp)
    assert read.frame_id == message.header.frame_id
    assert read.data.dtype == np.uint8
    assert bytes(read.data) == bytes(message.data)
    for field in ('height', 'width', 'encoding', 'is_bigendian', 'step', 'format'):
        if hasattr(message, field):
            assert getattr(read, field) == getattr(message, field)


@given(
    stamp_ns=STAMPS,
    frame_id=TEXTS,
    encoding=TEXTS,
    height=UINT32,
    width=UINT32,
    step=UINT32,
    is_bigendian=st.integers(0, 255),
    data=DATA,
)
def test_image_is_read_as_rclpy_reads_it(data, **fields):
    message = image(data=data, **fields)
    serialised = serialize_message(message)
    assert_same(read_image(serialised), deserialize_message(serialised, Image))
    assert_same(read_image(big_endian(message)), message)


@given(stamp_ns=STAMPS, frame_id=TEXTS, text=TEXTS, data=DATA)
def test_compressed_image_is_read_as_rclpy_reads_it(stamp_ns, frame_id, text, data):
    header = Header(stamp=to_time(stamp_ns), frame_id=frame_id)
    message = CompressedImage(header=header, format=text, data=array.array('B', data))
    serialised = serialize_message(message)
    assert_same(
        read_compressed_image(serialised), deserialize_message(serialised, CompressedImage)
    )


@given(frame_id=TEXTS, encoding=TEXTS, data=DATA, at=st.data())
def test_truncated_image_is_rejected(frame_id, encoding, data, at):
    serialised = serialize_message(image(frame_id=frame_id, encoding=encoding, data=data))
    # rmw_fastrtps adds no padding at the end, so each missing byte matters.
    kept = at.draw(st.integers(4, len(serialised) - 1))
    with pytest.raises(FrameError, match='ends within') as caught:
        read_image(serialised[:kept])
    assert caught.value.cause == 'malformed'
    assert f'{kept} bytes' in str(caught.value)


@given(noise=st.binary(max_size=120), head=st.sampled_from([b'', b'\0\0\0\0', b'\0\1\0\0']))
@pytest.mark.parametrize('read', [read_image, read_compressed_image])
def test_any_bytes_give_fields_or_an_error(read, noise, head):
    try:
        fields = read(head + noise)
    except (FrameError, EncapsulationError):
        return
    assert (head + noise).startswith((b'\0\0', b'\0\1'))
    assert len(fields.data) <= len(noise)


@given(place=st.integers(4, 70), value=st.integers(0, 255))
def test_changed_byte_is_read_as_by_rclpy_or_rejected(place, value):
    serialised = bytearray(serialize_message(image(frame_id='optical', data=bytes(range(40)))))
    serialised[place] = value
    changed = bytes(serialised)
    try:
        read = read_image(changed)
    except FrameError:
        return
    assert_same(read, deserialize_message(changed, Image))


@pytest.mark.parametrize('kind', [b'\0\2', b'\0\6', b'\0\7', b'\0\x0a', b'\1\1'])
def test_other_encapsulation_raises_encapsulation_error(kind):
    serialised = serialize_message(image())
    with pytest.raises(EncapsulationError, match=kind.hex(' ')):
        read_image(kind + serialised[2:])


@pytest.mark.parametrize('size', [0, 1, 3])
def test_missing_encapsulation_raises_encapsulation_error(size):
    with pytest.raises(EncapsulationError, match=f'{size} bytes'):
        read_image(b'\0\1\0\0'[:size])


def test_pixels_are_not_copied():
    pixels_hw3 = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    serialised = serialize_message(from_rgb(pixels_hw3, 'rgb8', Header(frame_id='optical')))
    shown = raw_to_rgb(read_image(serialised))
    assert np.shares_memory(shown, np.frombuffer(serialised, np.uint8))
    assert np.array_equal(shown, pixels_hw3)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono16', 'rgb16', 'bayer_rggb16', 'yuv422'])
@pytest.mark.parametrize('frame_id', ['', 'a', 'ab', 'abc'])
def test_pixels_equal_those_of_the_message_at_any_offset(encoding, frame_id):
    random = np.random.default_rng(1)
    known = {'mono16': 2, 'rgb16': 6, 'bayer_rggb16': 2, 'yuv422': 2}.get(encoding, 3)
    data = random.integers(0, 256, 6 * 8 * known, np.uint8).tobytes()
    message = image(
        frame_id=frame_id, encoding=encoding, data=data, height=6, width=8, step=8 * known
    )
    shown = raw_to_rgb(read_image(serialize_message(message)))
    assert np.array_equal(shown, to_rgb(message))
