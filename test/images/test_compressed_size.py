# SPDX-License-Identifier: Apache-2.0
"""The size of a compressed image comes from its header, before decoding."""

import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.images.encodings import ImageError
from step_ros.images.messages import MAX_PIXELS, compressed_size, compressed_to_rgb, is_complete


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


def noisy(extension, height=60, width=80, options=()):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(extension, image, options)[1].tobytes()


def with_preview(jpeg, marker=0xE2):
    """Return a JPEG with a whole smaller JPEG in a segment of its own."""
    preview = noisy('.jpg', 12, 16)
    return (
        jpeg[:2] + bytes((0xFF, marker)) + (len(preview) + 2).to_bytes(2, 'big') + preview
    ) + jpeg[2:]


JPEG_OPTIONS = {
    'baseline': (),
    'progressive': (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    'restarts': (cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
}


@pytest.mark.parametrize('kind', JPEG_OPTIONS)
@pytest.mark.parametrize('marker', [0xE1, 0xE2, 0xFE])
def test_jpeg_cut_short_is_refused_in_spite_of_a_whole_preview(kind, marker):
    whole = with_preview(noisy('.jpg', options=JPEG_OPTIONS[kind]), marker)
    assert compressed_to_rgb(Compressed(whole)).shape == (60, 80, 3)
    for kept in (0.6, 0.8, 0.95):
        cut = whole[: int(kept * len(whole))]
        assert b'\xff\xd9' in cut
        with pytest.raises(ImageError, match='not a complete image') as caught:
            compressed_to_rgb(Compressed(cut))
        assert caught.value.cause == 'undecodable'


@pytest.mark.parametrize('kind', JPEG_OPTIONS)
def test_jpeg_is_complete_only_with_its_last_byte(kind):
    whole = with_preview(noisy('.jpg', 16, 16, JPEG_OPTIONS[kind]))
    assert is_complete(whole)
    assert not any(is_complete(whole[:kept]) for kept in range(len(whole)))


def test_bytes_after_the_end_marker_do_not_matter():
    jpeg = noisy('.jpg')
    assert is_complete(jpeg + b'\xff\xd9' + bytes(64))
    assert is_complete(jpeg[:-2] + b'\xff\xff' + jpeg[-2:])
    assert is_complete(noisy('.png') + bytes(64))


def test_png_cut_short_is_refused_in_spite_of_its_end_in_a_text():
    png = noisy('.png')
    at = png.index(b'IDAT') - 4
    text = b'Comment\0IEND'
    chunk = len(text).to_bytes(4, 'big') + b'tEXt' + text
    whole = png[:at] + chunk + zlib.crc32(chunk[4:]).to_bytes(4, 'big') + png[at:]
    assert compressed_to_rgb(Compressed(whole)).shape == (60, 80, 3)
    with pytest.raises(ImageError, match='not a complete image'):
        compressed_to_rgb(Compressed(whole[: len(whole) // 2]))
    assert not any(is_complete(whole[:kept]) for kept in range(0, len(whole), 7))
