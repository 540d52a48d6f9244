# SPDX-License-Identifier: Apache-2.0
"""The size of a compressed image comes from its header, before decoding."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.images.encodings import ImageError
from step_ros.images.messages import MAX_PIXELS, compressed_size, compressed_to_rgb


class Compressed:
    def __init__(self, data, format='jpeg'):
        self.data, self.format = data, format


def encoded(extension, height, width, *options):
    return cv2.imencode(extension, np.zeros((height, width, 3), np.uint8), options)[1].tobytes()


@given(height=st.integers(1, 300), width=st.integers(1, 300))
@pytest.mark.parametrize(
    ('extension', 'options'),
    [
        ('.png', ()),
        ('.jpg', ()),
        ('.jpg', (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        ('.jpg', (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    ],
)
def test_header_size_is_the_size_of_the_image(extension, options, height, width):
    assert compressed_size(encoded(extension, height, width, *options)) == (height, width)


def test_segments_and_stray_bytes_before_the_header_are_skipped():
    image = encoded('.jpg', 12, 34)
    comment = b'\xff\xfe\x00\x06\xff\xc0ab'  # a segment that contains the bytes of a header
    assert compressed_size(image[:2] + comment + b'\xff\xff' + image[2:]) == (12, 34)
    assert compressed_size(image[:2] + b'stray' + image[2:]) == (12, 34)


@given(st.binary(max_size=64), st.sampled_from([b'', b'\xff\xd8', b'\x89PNG\r\n\x1a\n']))
def test_any_bytes_give_a_size_or_none(data, head):
    found = compressed_size(head + data)
    assert found is None or all(0 <= side < 2**32 for side in found)


@pytest.mark.parametrize('extension', ['.bmp', '.tiff', '.webp'])
def test_other_formats_are_refused(extension):
    data = encoded(extension, 8, 8)
    assert compressed_size(data) is None
    with pytest.raises(ImageError, match='expected a JPEG or PNG') as caught:
        compressed_to_rgb(Compressed(data))
    assert caught.value.cause == 'undecodable'


@pytest.mark.parametrize(('extension', 'at', 'form'), [('.png', 16, 4), ('.jpg', None, 2)])
def test_huge_declared_size_is_refused_before_decoding(extension, at, form):
    data = bytearray(encoded(extension, 8, 8))
    at = data.find(b'\xff\xc0') + 5 if at is None else at
    data[at : at + 2 * form] = (60_000).to_bytes(form, 'big') * 2
    assert MAX_PIXELS < 60_000**2
    with pytest.raises(ImageError, match='60000 x 60000') as caught:
        compressed_to_rgb(Compressed(bytes(data)))
    assert caught.value.cause == 'too_large'
