# SPDX-License-Identifier: Apache-2.0
"""Convert image messages to RGB arrays, and RGB arrays to image messages."""

import array

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from step_ros.images.encodings import KNOWN_ENCODINGS, ImageError
from step_ros.images.messages import RawFields, compress, compressed_to_rgb, pack, raw_to_rgb
from step_ros.ros.cdr_images import CdrCompressedImage, CdrImage

__all__ = ['ImageError', 'from_rgb', 'to_compressed', 'to_rgb']


def to_rgb(
    message: Image | CompressedImage | CdrImage | CdrCompressedImage,
    *,
    grey_16uc1: bool = False,
) -> np.ndarray:
    """Convert an image message to RGB.

    Args:
        message: The message, or the fields read from its bytes. A `rgb8` image without row padding
            is not copied: the result then shares the message's memory.
        grey_16uc1: Whether `16UC1` is a grey image; otherwise it is refused as depth.

    Returns:
        uint8 `[h, w, 3]`, contiguous.

    Raises:
        ImageError: The message is empty, damaged or in an unknown encoding.
    """
    if isinstance(message, CompressedImage | CdrCompressedImage):
        return compressed_to_rgb(message, grey_16uc1=grey_16uc1)
    return raw_to_rgb(message, unknown=_by_cv_bridge, grey_16uc1=grey_16uc1)


def from_rgb(image_hw3: np.ndarray, encoding: str, header: Header) -> Image:
    """Return an image as a message.

    Args:
        image_hw3: uint8 RGB `[h, w, 3]`.
        encoding: One of `PUBLISHED_ENCODINGS`.
        header: Stamp and coordinate frame.

    Raises:
        ImageError: The encoding is not one of those, the array is not an RGB image, or its width
            is odd and the encoding needs an even one.
    """
    packed = pack(image_hw3, encoding)
    return Image(
        header=header,
        height=packed.height,
        width=packed.width,
        encoding=packed.encoding,
        is_bigendian=packed.is_bigendian,
        step=packed.step,
        data=_bytes(packed.data),
    )


def to_compressed(
    image_hw3: np.ndarray, header: Header, format: str = 'jpeg', quality: int = 90
) -> CompressedImage:
    """Return a compressed image message, as `image_transport` makes it from `rgb8` images.

    Args:
        image_hw3: uint8 RGB `[h, w, 3]`.
        header: Stamp and coordinate frame.
        format: `jpeg` or `png`.
        quality: Quality of a JPEG, from 1 to 100.

    Raises:
        ImageError: The format is neither, or the array is not an RGB image.
    """
    text, data = compress(image_hw3, format, quality)
    return CompressedImage(header=header, format=text, data=_bytes(data))


def _by_cv_bridge(message: RawFields) -> np.ndarray:
    # cv_bridge is only the fallback: the package's own conversions give the same pixels, and a
    # cv_bridge built for numpy 1 fails at import once pip has installed numpy 2.
    try:
        from cv_bridge import CvBridge
    except Exception as error:
        raise ImageError(
            'unknown_encoding',
            f'encoding {message.encoding!r} is unknown, and cv_bridge cannot be imported '
            f'({type(error).__name__}); supported without it: ' + ', '.join(KNOWN_ENCODINGS),
        ) from error
    try:
        image_hw3: np.ndarray = CvBridge().imgmsg_to_cv2(message, 'rgb8')
    except Exception as error:
        raise ImageError(
            'unknown_encoding',
            f'cv_bridge cannot convert encoding {message.encoding!r} to rgb8: {error}',
        ) from error
    return image_hw3


def _bytes(pixels: np.ndarray) -> 'array.array[int]':
    # rclpy checks every element of any other type; only array.array is assigned as a whole.
    data = array.array('B')
    data.frombytes(pixels.data)
    return data
