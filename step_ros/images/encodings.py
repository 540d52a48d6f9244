"""Pixel encodings of `sensor_msgs/Image`: what each one looks like, and its way to RGB and back.

The reference is what `cv_bridge` gives for `rgb8`; a test compares the two where it is installed.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from step_ros.images.errors import FrameError


class ImageError(FrameError):
    """An image message cannot be converted.

    Args:
        cause: `unknown_encoding`, `size_mismatch`, `undecodable`, `too_large` or `empty`.
        detail: What is wrong and what was expected.
    """


@dataclass(frozen=True)
class Encoding:
    """How a pixel is stored, and how OpenCV turns it into RGB.

    Attributes:
        channels: Numbers in a pixel.
        dtype: Type of a number, in this machine's byte order.
        to_rgb: OpenCV's conversion code; None where the pixels are RGB already.
        pattern: Colours of the first 2 x 2 pixels, row by row, of a Bayer mosaic.
        luma: Where a packed YUV 4:2:2 pixel has its Y; its U or V is in the other place.
    """

    channels: int
    dtype: type[np.uint8] | type[np.uint16]
    to_rgb: int | None
    pattern: str = ''
    luma: int | None = None

    @property
    def pixel_bytes(self) -> int:
        """Size of a pixel."""
        return self.channels * np.dtype(self.dtype).itemsize


def _table() -> dict[str, Encoding]:
    # OpenCV names a Bayer mosaic after the second and third pixel of the second row, ROS after
    # the first four pixels: the same sensor is `rggb` in ROS and BG in OpenCV.
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
    # `yuv422` is ROS's old name for UYVY, `yuv422_yuy2` the one for YUYV.
    uyvy = Encoding(2, np.uint8, cv2.COLOR_YUV2RGB_UYVY, luma=1)
    yuyv = Encoding(2, np.uint8, cv2.COLOR_YUV2RGB_YUY2, luma=0)
    table |= {'yuv422': uyvy, 'uyvy': uyvy, 'yuv422_yuy2': yuyv, 'yuyv': yuyv}
    # Types without colours mean what OpenCV keeps in them. 16UC1 is left out: it is depth, and
    # cv_bridge does not make colours of it either.
    table |= {'8UC1': table['mono8'], '8UC3': table['bgr8'], '8UC4': table['bgra8']}
    return table


ENCODINGS = _table()
"""Every encoding that can be read, by its name in `sensor_msgs/Image`."""

PUBLISHED_ENCODINGS = (
    *('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'mono16'),
    *('bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8', 'yuv422', 'yuv422_yuy2'),
)
"""Every encoding that can be written."""

# BT.601 with the narrow range of video (Y from 16 to 235), as OpenCV reads it back; the last
# column is added. New versions of OpenCV can write packed YUV themselves, those of Ubuntu cannot.
_RGB_TO_YUV = np.array(
    [
        [0.256788, 0.504129, 0.097906, 16.0],
        [-0.148223, -0.290993, 0.439216, 128.0],
        [0.439216, -0.367788, -0.071427, 128.0],
    ]
)


def pixels_to_rgb(pixels: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Convert pixels to RGB.

    Args:
        pixels: `[h, w]` for one channel, else `[h, w, channels]`, in this machine's byte order.
        encoding: Their encoding.

    Returns:
        uint8 `[h, w, 3]`; the pixels themselves where they are 8 bit RGB.

    Raises:
        ImageError: A packed YUV image has an odd width.
    """
    if encoding.luma is not None and pixels.shape[1] % 2:
        raise ImageError(
            'size_mismatch',
            f'width {pixels.shape[1]} is odd; packed YUV has its colours once for two columns',
        )
    if encoding.pattern:
        # Colours between the mosaic's pixels are interpolated before bits are dropped.
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
    """Scale 16 bit numbers to 8 bit and round; 8 bit numbers stay as they are.

    `cv_bridge` multiplies by 255 / 65535 and rounds, and so does this: not the same as dropping
    the lower byte.
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
            f'width {width} is odd; packed YUV has its colours once for two columns',
        )
    yuv_hw3 = cv2.transform(image_hw3, _RGB_TO_YUV)
    halved_hw3 = cv2.resize(yuv_hw3, (width // 2, height), interpolation=cv2.INTER_AREA)
    packed_hw2 = np.empty((height, width, 2), np.uint8)
    packed_hw2[:, :, luma] = yuv_hw3[:, :, 0]
    packed_hw2[:, 0::2, 1 - luma] = halved_hw3[:, :, 1]
    packed_hw2[:, 1::2, 1 - luma] = halved_hw3[:, :, 2]
    return packed_hw2
