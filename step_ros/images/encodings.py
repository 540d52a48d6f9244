# SPDX-License-Identifier: Apache-2.0
"""Pixel encodings of `sensor_msgs/Image`, and their conversion to RGB and back.

The result equals that of `cv_bridge` for `rgb8`; a test compares the two if it is installed.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from step_ros.images.errors import FrameError


class ImageError(FrameError):
    """An image message cannot be converted.

    Args:
        cause: `unknown_encoding`, `size_mismatch`, `undecodable`, `too_large` or `empty`.
        detail: The fault and the expected content.
    """


@dataclass(frozen=True)
class PlanarEncoding:
    """An encoding with all Y first, then the colours U and V.

    Attributes:
        planes: `uv` or `vu` for pairs in one plane, `u,v` or `v,u` for two planes.
        full: Whether each pixel has its own colours; else each block of 2 x 2 pixels has.
    """

    planes: str
    full: bool = False

    @property
    def rows(self) -> float:
        """Size of an image in rows of Y, for each row of pixels."""
        return 3.0 if self.full else 1.5


PLANAR_ENCODINGS = {
    'nv12': PlanarEncoding('uv'),
    'nv21': PlanarEncoding('vu'),
    'nv24': PlanarEncoding('uv', full=True),
    'yuv420': PlanarEncoding('u,v'),
    'yuv420p': PlanarEncoding('u,v'),
    'i420': PlanarEncoding('u,v'),
    'yv12': PlanarEncoding('v,u'),
}
"""All planar encodings that can be read, by their name in `sensor_msgs/Image`."""


@dataclass(frozen=True)
class Encoding:
    """The memory layout of a pixel, and its conversion to RGB by OpenCV.

    Attributes:
        channels: Numbers in a pixel.
        dtype: Type of a number, in this machine's byte order.
        to_rgb: OpenCV's conversion code; None if the pixels are RGB already.
        pattern: Colours of the first 2 x 2 pixels of a Bayer mosaic, row by row; else empty.
        luma: Channel of Y in packed YUV 4:2:2, whose other channel holds U or V; else None.
    """

    channels: int
    dtype: type[np.uint8] | type[np.uint16]
    to_rgb: int | None
    pattern: str = ''
    luma: int | None = None

    @property
    def pixel_bytes(self) -> int:
        """Size of a pixel in bytes."""
        return self.channels * np.dtype(self.dtype).itemsize


def _table() -> dict[str, Encoding]:
    # ROS names a Bayer mosaic after its first four pixels. OpenCV names it after the second and
    # third pixel of the second row: the same sensor is `rggb` in ROS and BG in OpenCV.
    bayer = {
        'rggb': cv2.COLOR_BayerBG2RGB,
        'bggr': cv2.COLOR_BayerRG2RGB,
        'gbrg': cv2.COLOR_BayerGR2RGB,
        'grbg': cv2.COLOR_BayerGB2RGB,
    }
    colours: dict[str, tuple[int, int | None]] = {
        'rgb': (3, None),
        'bgr': (3, cv2.COLOR_BGR2RGB),
        'rgba': (4, cv2.COLOR_RGBA2RGB),
        'bgra': (4, cv2.COLOR_BGRA2RGB),
        'mono': (1, cv2.COLOR_GRAY2RGB),
    }
    table: dict[str, Encoding] = {}
    for bits, dtype in ((8, np.uint8), (16, np.uint16)):
        for name, (channels, code) in colours.items():
            table[f'{name}{bits}'] = Encoding(channels, dtype, code)
        for pattern, code in bayer.items():
            table[f'bayer_{pattern}{bits}'] = Encoding(1, dtype, code, pattern=pattern)
    # ROS's old names are `yuv422` for UYVY and `yuv422_yuy2` for YUYV.
    uyvy = Encoding(2, np.uint8, cv2.COLOR_YUV2RGB_UYVY, luma=1)
    yuyv = Encoding(2, np.uint8, cv2.COLOR_YUV2RGB_YUY2, luma=0)
    table |= {'yuv422': uyvy, 'uyvy': uyvy, 'yuv422_yuy2': yuyv, 'yuyv': yuyv, 'yuy2': yuyv}
    # OpenCV's types hold the colours in OpenCV's order. 16UC1 is missing: it holds depth, which
    # cv_bridge does not convert to colours either.
    table |= {'8UC1': table['mono8'], '8UC3': table['bgr8'], '8UC4': table['bgra8']}
    return table


ENCODINGS = _table()
"""All encodings of whole pixels that can be read, by their name in `sensor_msgs/Image`."""

_BY_ANY_CASE = {name.lower(): encoding for name, encoding in ENCODINGS.items()}

PUBLISHED_ENCODINGS = (
    *('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16'),
    *('bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8', 'yuv422', 'yuv422_yuy2'),
)
"""All encodings that can be written."""

KNOWN_ENCODINGS = (*ENCODINGS, *PLANAR_ENCODINGS)
"""The names of all encodings that can be read."""

# BT.601 with the narrow range of video (Y from 16 to 235), as OpenCV reads it; the last column is
# an offset. Ubuntu's version of OpenCV cannot write packed YUV, newer versions can.
_RGB_TO_YUV = np.array(
    [
        [0.256788, 0.504129, 0.097906, 16.0],
        [-0.148223, -0.290993, 0.439216, 128.0],
        [0.439216, -0.367788, -0.071427, 128.0],
    ]
)
# The inverse: what OpenCV does to YUV.
_YUV_TO_RGB = np.array(
    [
        [1.164384, 0.0, 1.596027, -222.921],
        [1.164384, -0.391762, -0.812968, 135.576],
        [1.164384, 2.017232, 0.0, -276.836],
    ]
)


def find_encoding(name: str) -> Encoding | PlanarEncoding | None:
    """Return the encoding of a name in any case; None for an unknown one."""
    lower = name.lower()
    return _BY_ANY_CASE.get(lower) or PLANAR_ENCODINGS.get(lower)


def planes_to_rgb(
    data: np.ndarray, encoding: PlanarEncoding, *, height: int, width: int, stride: int
) -> np.ndarray:
    """Convert planes of Y and colours to RGB.

    Args:
        data: All bytes, uint8; bytes after the planes are ignored.
        encoding: Their encoding.
        height: Rows of the image, even if the colours have half as many.
        width: Pixels in a row, even if the colours have half as many.
        stride: Bytes in a row of Y. A plane of `u,v` has half as many in a row, and one of `uv`
            has as many, or twice as many if each pixel has its own colours.

    Returns:
        uint8 `[h, w, 3]`.

    Raises:
        ImageError: A side is odd.
    """
    if not encoding.full and (width % 2 or height % 2 or stride % 2):
        raise ImageError(
            'size_mismatch',
            f'{width} x {height} with {stride} bytes in a row is odd; YUV 4:2:0 needs even sides',
        )
    luma_hw = data[: height * stride].reshape(height, stride)[:, :width]
    chroma = data[height * stride : round(height * stride * encoding.rows)]
    if encoding.full:
        pairs_hw2 = chroma.reshape(height, stride, 2)[:, :width]
        return cv2.transform(np.dstack((luma_hw, pairs_hw2)), _YUV_TO_RGB)
    if ',' in encoding.planes:
        colours = chroma.reshape(2, height // 2, stride // 2)[:, :, : width // 2]
        pairs_hw2 = np.stack(list(colours), axis=-1)
    else:
        pairs_hw2 = chroma.reshape(height // 2, stride // 2, 2)[:, : width // 2]
    is_u_first = encoding.planes[0] == 'u'
    code = cv2.COLOR_YUV2RGB_NV12 if is_u_first else cv2.COLOR_YUV2RGB_NV21
    packed = np.concatenate((luma_hw, pairs_hw2.reshape(height // 2, width)))
    return cv2.cvtColor(packed, code)


def pixels_to_rgb(pixels: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Convert pixels to RGB.

    Args:
        pixels: `[h, w]` for one channel, else `[h, w, channels]`, in this machine's byte order.
        encoding: Their encoding.

    Returns:
        uint8 `[h, w, 3]`; the pixels themselves if they are 8 bit RGB.

    Raises:
        ImageError: A packed YUV image has an odd width.
    """
    if encoding.luma is not None and pixels.shape[1] % 2:
        raise ImageError(
            'size_mismatch',
            f'width {pixels.shape[1]} is odd; packed YUV needs an even width',
        )
    if encoding.pattern:
        # Interpolate the mosaic before reducing it to 8 bit, as cv_bridge does.
        return to_8_bit(cv2.cvtColor(pixels, _code(encoding)))
    pixels = to_8_bit(pixels)
    return pixels if encoding.to_rgb is None else cv2.cvtColor(pixels, encoding.to_rgb)


def rgb_to_pixels(image_hw3: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Convert RGB to pixels of another encoding.

    Args:
        image_hw3: uint8 `[h, w, 3]`.
        encoding: One of the encodings of `PUBLISHED_ENCODINGS`.

    Returns:
        `[h, w]` for one channel, else `[h, w, channels]`.

    Raises:
        ImageError: A packed YUV image would have an odd width.
    """
    if encoding.pattern:
        return _mosaic(image_hw3, encoding.pattern)
    if encoding.luma is not None:
        return _packed_yuv(image_hw3, encoding.luma)
    if encoding.channels == 1:
        grey_hw = cv2.cvtColor(image_hw3, cv2.COLOR_RGB2GRAY)
        # 255 becomes 65535: the inverse of `to_8_bit`.
        return grey_hw if encoding.dtype is np.uint8 else grey_hw.astype(np.uint16) * 257
    if encoding.to_rgb is None:
        return image_hw3
    back = {
        cv2.COLOR_BGR2RGB: cv2.COLOR_RGB2BGR,
        cv2.COLOR_RGBA2RGB: cv2.COLOR_RGB2RGBA,
        cv2.COLOR_BGRA2RGB: cv2.COLOR_RGB2BGRA,
    }
    return cv2.cvtColor(image_hw3, back[encoding.to_rgb])


def to_8_bit(pixels: np.ndarray) -> np.ndarray:
    """Scale 16 bit numbers to 8 bit and round; return 8 bit numbers unchanged.

    Like `cv_bridge`, this multiplies by 255 / 65535 and rounds. Dropping the lower byte would give
    other values.
    """
    if pixels.dtype == np.uint8:
        return pixels
    return cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0).reshape(pixels.shape)


def _code(encoding: Encoding) -> int:
    assert encoding.to_rgb is not None
    return encoding.to_rgb


def _mosaic(image_hw3: np.ndarray, pattern: str) -> np.ndarray:
    mosaic_hw = np.empty(image_hw3.shape[:2], np.uint8)
    for position, colour in enumerate(pattern):
        row, column = divmod(position, 2)
        mosaic_hw[row::2, column::2] = image_hw3[row::2, column::2, 'rgb'.index(colour)]
    return mosaic_hw


def _packed_yuv(image_hw3: np.ndarray, luma: int) -> np.ndarray:
    height, width, _ = image_hw3.shape
    if width % 2:
        raise ImageError(
            'size_mismatch',
            f'width {width} is odd; packed YUV needs an even width',
        )
    yuv_hw3 = cv2.transform(image_hw3, _RGB_TO_YUV)
    halved_hw3 = cv2.resize(yuv_hw3, (width // 2, height), interpolation=cv2.INTER_AREA)
    packed_hw2 = np.empty((height, width, 2), np.uint8)
    packed_hw2[:, :, luma] = yuv_hw3[:, :, 0]
    packed_hw2[:, 0::2, 1 - luma] = halved_hw3[:, :, 1]
    packed_hw2[:, 1::2, 1 - luma] = halved_hw3[:, :, 2]
    return packed_hw2
