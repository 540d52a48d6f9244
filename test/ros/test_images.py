# SPDX-License-Identifier: Apache-2.0
"""Image messages to RGB and back: encodings, compression, and damaged messages."""

import array
import importlib.util
import sys

import cv2
import numpy as np
import pytest
from fixtures.images import error_of, image_message, smooth
from hypothesis import example, given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from step_ros.images.encodings import (
    ENCODINGS,
    KNOWN_ENCODINGS,
    PUBLISHED_ENCODINGS,
    to_8_bit,
)
from step_ros.ros.images import ImageError, from_rgb, to_compressed, to_rgb

COLOUR = ('rgb8', 'bgr8', 'rgba8', 'bgra8')
BAYER = tuple(f'bayer_{pattern}8' for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'))
YUV = ('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv')


@pytest.mark.parametrize('encoding', COLOUR)
def test_colours_survive_the_round_trip_exactly(encoding):
    image = np.random.default_rng(1).integers(0, 256, (33, 47, 3), np.uint8)
    assert np.array_equal(to_rgb(from_rgb(image, encoding, Header())), image)


@pytest.mark.parametrize('encoding', [*BAYER, 'yuv422', 'yuv422_yuy2'])
def test_subsampled_colours_survive_approximately(encoding):
    image = smooth()
    difference = np.abs(to_rgb(from_rgb(image, encoding, Header())).astype(int) - image)
    # Demosaicing copies the border from its neighbours.
    assert difference[2:-2, 2:-2].max() <= 6
    assert difference.mean() < 2


@pytest.mark.parametrize('encoding', ['mono8', 'mono16'])
def test_grey_stays_grey(encoding):
    grey = cv2.cvtColor(smooth(), cv2.COLOR_RGB2GRAY)
    back = to_rgb(from_rgb(smooth(), encoding, Header()))
    assert all(np.array_equal(back[:, :, channel], grey) for channel in range(3))


@pytest.mark.parametrize('encoding', PUBLISHED_ENCODINGS)
def test_written_messages_are_well_formed(encoding):
    header = Header(frame_id='optical')
    message = from_rgb(smooth(), encoding, header)
    assert (message.height, message.width, message.encoding) == (48, 64, encoding)
    assert message.step == 64 * ENCODINGS[encoding].pixel_bytes
    assert len(message.data) == 48 * message.step
    assert message.header.frame_id == 'optical'
    assert isinstance(message.data, array.array)


@pytest.mark.parametrize('encoding', PUBLISHED_ENCODINGS)
def test_result_is_a_contiguous_uint8_image(encoding):
    back = to_rgb(from_rgb(smooth(), encoding, Header()))
    assert back.shape == (48, 64, 3)
    assert back.dtype == np.uint8
    assert back.flags.c_contiguous


def test_rgb8_is_not_copied():
    message = from_rgb(smooth(), 'rgb8', Header())
    assert np.shares_memory(to_rgb(message), np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize('encoding', PUBLISHED_ENCODINGS)
@pytest.mark.parametrize('extra', [1, 2, 7, 64])
def test_row_padding_is_dropped(encoding, extra):
    message = from_rgb(smooth(), encoding, Header())
    expected = to_rgb(message)
    dtype = ENCODINGS[encoding].dtype
    pixels = np.frombuffer(message.data, dtype).reshape(48, 64, -1)
    padded = image_message(pixels, encoding, step=message.step + extra)
    assert np.array_equal(to_rgb(padded), expected)


@pytest.mark.parametrize(
    ('first', 'second'), [('yuv422', 'uyvy'), ('yuv422_yuy2', 'yuyv'), ('bgr8', '8UC3')]
)
def test_aliases_mean_the_same(first, second):
    message = from_rgb(smooth(), first, Header())
    expected = to_rgb(message)
    message.encoding = second
    assert np.array_equal(to_rgb(message), expected)


def test_yuv_layouts_give_known_colours():
    # Y = 235, U = V = 128 is white; UYVY starts with U, YUYV with Y.
    white = np.tile(np.array([128, 235], np.uint8), (2, 4, 1))
    assert (to_rgb(image_message(white, 'yuv422')) == 255).all()
    assert (to_rgb(image_message(white[:, :, ::-1], 'yuv422_yuy2')) == 255).all()
    # V high: red.
    red = np.tile(np.array([[90, 81], [240, 81]], np.uint8), (2, 2, 1))
    assert to_rgb(image_message(red, 'uyvy'))[0, 0].tolist() == pytest.approx([254, 0, 0], abs=3)


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize(
    ('pattern', 'red_at'), [('rggb', (0, 0)), ('bggr', (1, 1)), ('gbrg', (1, 0)), ('grbg', (0, 1))]
)
def test_bayer_pattern_names_the_first_four_pixels(pattern, red_at, bits):
    # Only red pixels are lit: any interpolation gives a red image.
    dtype = np.uint8 if bits == 8 else np.uint16
    mosaic = np.zeros((16, 16), dtype)
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = np.iinfo(dtype).max
    middle = to_rgb(image_message(mosaic, f'bayer_{pattern}{bits}'))[4:-4, 4:-4]
    assert (middle[:, :, 0] == 255).all()
    assert (middle[:, :, 1:] == 0).all()


def test_16_bit_values_are_scaled_as_by_cv_bridge():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(values * (255 / 65535)).astype(np.uint8)
    assert np.array_equal(to_8_bit(values), expected)
    assert np.array_equal(to_rgb(image_message(values, 'mono16'))[:, :, 1], expected)


@pytest.mark.parametrize('encoding', ['mono16', 'rgb16', 'bgra16', 'bayer_grbg16'])
@pytest.mark.parametrize('extra', [0, 1, 6])
def test_16_bit_images_follow_their_byte_order(encoding, extra):
    channels = ENCODINGS[encoding].channels
    pixels = np.random.default_rng(2).integers(0, 65536, (9, 10, channels)).astype('<u2')
    step = 10 * 2 * channels + extra
    little = to_rgb(image_message(pixels, encoding, step=step))
    big = to_rgb(image_message(pixels.astype('>u2'), encoding, step=step, big_endian=True))
    assert np.array_equal(little, big)


def test_8_bit_images_ignore_the_byte_order():
    message = from_rgb(smooth(), 'bgr8', Header())
    message.is_bigendian = 1
    assert np.array_equal(to_rgb(message), smooth())


@pytest.mark.parametrize('codec', ['jpeg', 'png'])
def test_compressed_round_trip(codec):
    message = to_compressed(smooth(), Header(frame_id='optical'), codec, quality=95)
    assert message.format == f'rgb8; {codec} compressed bgr8'
    assert message.header.frame_id == 'optical'
    difference = np.abs(to_rgb(message).astype(int) - smooth())
    assert difference.max() <= (0 if codec == 'png' else 12)


def compressed(pixels, extension, text):
    return CompressedImage(
        format=text, data=array.array('B', cv2.imencode(extension, pixels)[1].tobytes())
    )


@pytest.mark.parametrize('text', ['png', '', 'jpeg', 'bgr8; png compressed bgr8', 'nonsense'])
def test_codec_follows_the_data_not_the_format_field(text):
    bgr = smooth()[:, :, ::-1]
    assert np.array_equal(to_rgb(compressed(bgr, '.png', text)), smooth())


def test_compressed_in_rgb_order_is_not_swapped():
    message = compressed(smooth(), '.png', 'rgb8; png compressed rgb8')
    assert np.array_equal(to_rgb(message), smooth())


def test_compressed_grey_alpha_and_16_bit():
    grey = smooth()[:, :, 0]
    assert np.array_equal(
        to_rgb(compressed(grey, '.png', 'mono8; png compressed '))[:, :, 2], grey
    )
    assert (to_rgb(compressed(grey, '.jpg', 'mono8; jpeg compressed mono8')).std(-1) == 0).all()
    alpha = cv2.cvtColor(smooth(), cv2.COLOR_RGB2BGRA)
    assert np.array_equal(to_rgb(compressed(alpha, '.png', 'png')), smooth())
    deep = smooth()[:, :, ::-1].astype(np.uint16) * 257
    assert np.array_equal(
        to_rgb(compressed(deep, '.png', 'rgb16; png compressed bgr16')), smooth()
    )


def test_png_of_a_bayer_mosaic_is_demosaiced():
    raw = from_rgb(smooth(), 'bayer_rggb8', Header())
    mosaic = np.frombuffer(raw.data, np.uint8).reshape(48, 64)
    message = compressed(mosaic, '.png', 'bayer_rggb8; png compressed ')
    assert np.array_equal(to_rgb(message), to_rgb(raw))
    grey = to_rgb(compressed(mosaic, '.jpg', 'bayer_rggb8; jpeg compressed mono8'))
    assert (grey.std(-1) == 0).all()


@pytest.mark.parametrize('encoding', ['RGB8', 'Bgr8', 'MONO16', 'BAYER_RGGB8', 'YUYV', '8uc3'])
def test_names_of_encodings_have_any_case(encoding):
    known = next(name for name in ENCODINGS if name.lower() == encoding.lower())
    layout = ENCODINGS[known]
    pixels = np.random.default_rng(4).integers(0, 256, (8, 10, layout.channels))
    message = image_message(pixels.astype(layout.dtype), encoding)
    image = to_rgb(message)
    message.encoding = known
    assert np.array_equal(image, to_rgb(message))


@pytest.mark.parametrize('encoding', ['rgb8', 'mono16', 'yuv422'])
def test_step_of_zero_means_tightly_packed_rows(encoding):
    message = from_rgb(smooth(), encoding, Header())
    expected = to_rgb(message)
    message.step = 0
    assert np.array_equal(to_rgb(message), expected)
    message.data = message.data[:-1]
    assert error_of(message).cause == 'size_mismatch'


@pytest.mark.parametrize('extra', [1, 512, 4095])
def test_bytes_after_the_last_row_are_dropped(extra):
    message = from_rgb(smooth(), 'rgb8', Header())
    message.data = message.data + array.array('B', bytes(extra))
    assert np.array_equal(to_rgb(message), smooth())
    message.data = message.data + array.array('B', bytes(1 << 16))
    assert error_of(message).cause == 'size_mismatch'


@pytest.mark.parametrize('encoding', ['mono12', 'bayer_rggb12p', '32FC1', '', 'nv16'])
@pytest.mark.parametrize('size', [1, 48 * 64, 48 * 64 * 2])
def test_unknown_encoding_is_not_called_a_size_mismatch(encoding, size):
    message = Image(height=48, width=64, encoding=encoding, step=64)
    message.data = array.array('B', bytes(size))
    assert error_of(message).cause == 'unknown_encoding'


def test_unknown_encoding_error_lists_known_encodings():
    error = error_of(image_message(smooth(), 'rgb9'))
    assert error.cause == 'unknown_encoding'
    assert "'rgb9'" in str(error)
    assert 'bayer_rggb8' in str(error)


def test_depth_images_are_rejected():
    depth = image_message(np.ones((4, 4), np.uint16), '16UC1')
    assert error_of(depth).cause == 'unknown_encoding'
    message = compressed(np.ones((4, 4), np.uint16), '.png', '16UC1; compressedDepth png')
    assert error_of(message).cause == 'unknown_encoding'


@pytest.mark.parametrize('encoding', ['16UC1', '16uc1'])
def test_16uc1_is_grey_only_where_asked(encoding):
    pixels = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    expected = to_rgb(image_message(pixels, 'mono16'))
    raw = image_message(pixels, encoding)
    png = compressed(pixels, '.png', f'{encoding}; png compressed ')
    for message in (raw, png):
        assert error_of(message).cause == 'unknown_encoding'
        assert np.array_equal(to_rgb(message, grey_16uc1=True), expected)
    depth = compressed(pixels, '.png', '16UC1; compressedDepth png')
    with pytest.raises(ImageError, match='is a depth image'):
        to_rgb(depth, grey_16uc1=True)


def test_contradicting_sizes_are_rejected():
    message = from_rgb(smooth(), 'rgb8', Header())
    message.data = message.data[:-1]
    error = error_of(message)
    assert error.cause == 'size_mismatch'
    assert 'height * step = 9216' in str(error)
    short = image_message(smooth(), 'rgb8')
    short.width += 1
    error = error_of(short)
    assert error.cause == 'size_mismatch'
    assert 'width * 3 = 195' in str(error)
    odd = image_message(np.zeros((4, 5, 2), np.uint8), 'yuv422')
    assert error_of(odd).cause == 'size_mismatch'


@pytest.mark.parametrize('field', ['height', 'width', 'data'])
def test_empty_image_is_rejected(field):
    message = from_rgb(smooth(), 'rgb8', Header())
    setattr(message, field, array.array('B') if field == 'data' else 0)
    assert error_of(message).cause == 'empty'


def test_bad_compressed_data_is_rejected():
    assert error_of(CompressedImage(format='jpeg')).cause == 'empty'
    noise = CompressedImage(format='jpeg', data=array.array('B', b'no image at all'))
    assert error_of(noise).cause == 'undecodable'


@pytest.mark.parametrize('codec', ['jpeg', 'png'])
@pytest.mark.parametrize('kept', [0.1, 0.5, 0.95])
def test_truncated_compressed_image_is_rejected(codec, kept):
    message = to_compressed(smooth(), Header(), codec)
    message.data = message.data[: int(kept * len(message.data))]
    error = error_of(message)
    assert error.cause == 'undecodable'
    assert f'{len(message.data)} bytes' in str(error)


@pytest.mark.parametrize(
    ('image', 'cause'),
    [
        (np.zeros((4, 4), np.uint8), 'size_mismatch'),
        (np.zeros((4, 4, 3), np.float32), 'size_mismatch'),
        (np.zeros((4, 4, 4), np.uint8), 'size_mismatch'),
        (np.zeros((0, 4, 3), np.uint8), 'empty'),
    ],
)
def test_writing_a_bad_array_is_rejected(image, cause):
    for write in (
        lambda: from_rgb(image, 'rgb8', Header()),
        lambda: to_compressed(image, Header()),
    ):
        with pytest.raises(ImageError) as caught:
            write()
        assert caught.value.cause == cause


def test_writing_an_unsupported_encoding_is_rejected():
    with pytest.raises(ImageError, match='expected one of rgb8, bgr8'):
        from_rgb(smooth(), 'rgb16', Header())
    with pytest.raises(ImageError, match='odd'):
        from_rgb(smooth(width=63), 'yuv422', Header())
    with pytest.raises(ImageError, match='expected jpeg or png'):
        to_compressed(smooth(), Header(), 'bmp')


@given(
    encoding=st.sampled_from([*KNOWN_ENCODINGS, '32FC1', '']),
    height=st.integers(0, 9),
    width=st.integers(0, 9),
    extra=st.integers(-3, 5),
    missing=st.sampled_from([0, 0, 0, 1, -1, -512]),
    big_endian=st.booleans(),
    seed=st.integers(0, 2**31),
)
@example('bayer_rggb16', 1, 1, 1, 0, True, 0)
def test_any_message_gives_an_image_or_an_image_error(
    encoding, height, width, extra, missing, big_endian, seed
):
    known = ENCODINGS.get(encoding)
    step = max(0, width * (known.pixel_bytes if known else 3) + extra)
    size = max(0, height * step - missing)
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    message = Image(
        height=height,
        width=width,
        encoding=encoding,
        step=step,
        is_bigendian=int(big_endian),
        data=array.array('B', data),
    )
    try:
        image = to_rgb(message)
    except ImageError:
        return
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    assert encoding in KNOWN_ENCODINGS
    if known is not None:
        assert extra >= 0 or step == 0
        assert missing <= 0 or step == 0


@given(
    data=st.binary(max_size=200),
    head=st.sampled_from([b'', b'\xff\xd8\xff\xe0', b'\x89PNG\r\n\x1a\n', b'BM', b'II*\0']),
    tail=st.sampled_from([b'', b'\xff\xd9', b'IEND']),
    text=st.text(max_size=30),
)
def test_any_compressed_data_gives_an_image_or_an_image_error(data, head, tail, text):
    try:
        image = to_rgb(CompressedImage(format=text, data=array.array('B', head + data + tail)))
    except ImageError:
        return
    assert image.ndim == 3
    assert image.dtype == np.uint8


def test_cv_bridge_converts_unknown_encodings(monkeypatch):
    class CvBridge:
        def imgmsg_to_cv2(self, message, desired_encoding):
            assert desired_encoding == 'rgb8'
            if message.encoding != 'mono12':
                raise RuntimeError('Unrecognized image encoding')
            return smooth()

    module = type(sys)('cv_bridge')
    module.CvBridge = CvBridge
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    assert np.array_equal(to_rgb(image_message(smooth(), 'mono12')), smooth())
    error = error_of(image_message(smooth(), 'rgb9'))
    assert error.cause == 'unknown_encoding'
    assert 'Unrecognized' in str(error)


@pytest.mark.skipif(
    importlib.util.find_spec('cv_bridge') is None,
    reason='cv_bridge is not installed (it comes with an apt ROS)',
)
@pytest.mark.parametrize(
    'encoding', [e for e in ENCODINGS if 'UC' not in e and e not in (*YUV[1::2], 'yuy2')]
)
def test_agrees_with_cv_bridge(encoding):
    from cv_bridge import CvBridge

    known = ENCODINGS[encoding]
    limit = np.iinfo(known.dtype).max + 1
    pixels = np.random.default_rng(3).integers(0, limit, (24, 32, known.channels))
    message = image_message(pixels.astype(known.dtype), encoding)
    assert np.array_equal(to_rgb(message), CvBridge().imgmsg_to_cv2(message, 'rgb8'))
