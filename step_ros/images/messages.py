"""The fields of image messages to RGB arrays and back, whoever made the message: ROS or a bag."""

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from step_ros.images.encodings import (
    ENCODINGS,
    PUBLISHED_ENCODINGS,
    ImageError,
    pixels_to_rgb,
    rgb_to_pixels,
    to_8_bit,
)

# ---- How large a compressed image will be, from its header: before any memory is taken for it.

_PNG = b'\x89PNG\r\n\x1a\n'

_JPEG = b'\xff\xd8'

# Markers of a JPEG (ITU T.81, table B.1): frame headers, those without a length, and those that no
# frame header follows.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_BARE = frozenset({0x01, *range(0xD0, 0xD9)})

_NO_HEADER_BEHIND = frozenset({0xD9, 0xDA})

# Marker, length and precision come before height and width.
_HEADER_BYTES = 9


def compressed_size(data: bytes) -> tuple[int, int] | None:
    """Return the height and width that a JPEG or PNG says it has; None for anything else."""
    if data.startswith(_PNG):
        return _png_size(data)
    return _jpeg_size(data) if data.startswith(_JPEG) else None


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b'IHDR' or len(data) < 24:
        return None
    width, height = struct.unpack_from('>II', data, 16)
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = len(_JPEG)
    # Decoders pass over stray bytes between segments, and so must this.
    while 0 <= (at := data.find(b'\xff', at)) <= len(data) - _HEADER_BYTES:
        marker = data[at + 1]
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack_from('>HH', data, at + 5)
            return height, width
        if marker in _NO_HEADER_BEHIND:
            return None
        if marker == 0xFF:  # fills
            at += 1
        elif marker in _BARE or not marker:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    return None


# A few kilobytes may say that they are an image of gigabytes; 8192 x 8192 is more than any camera
# beside a person needs.
MAX_PIXELS = 1 << 26


class RawFields(Protocol):
    """The fields of `sensor_msgs/Image`; `data` is any buffer of bytes."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedFields(Protocol):
    """The fields of `sensor_msgs/CompressedImage`; `data` is any buffer of bytes."""

    format: str
    data: Any


@dataclass(frozen=True, kw_only=True)
class PackedImage:
    """The fields of a `sensor_msgs/Image` to be written.

    Attributes:
        height: Rows.
        width: Pixels in a row.
        encoding: One of `PUBLISHED_ENCODINGS`.
        is_bigendian: Byte order of numbers above 8 bit.
        step: Bytes in a row.
        data: The bytes, uint8.
    """

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: np.ndarray


def refuse_encoding(message: RawFields) -> np.ndarray:
    """Refuse an encoding that is not known.

    Raises:
        ImageError: Always; lists those that are known.
    """
    raise ImageError(
        'unknown_encoding',
        f'encoding {message.encoding!r} is not known; known are ' + ', '.join(ENCODINGS),
    )


def raw_to_rgb(
    message: RawFields, *, unknown: Callable[[RawFields], np.ndarray] = refuse_encoding
) -> np.ndarray:
    """Convert a raw image to RGB.

    Args:
        message: The message. A `rgb8` image without row padding is not copied: the result then
            shares the message's memory.
        unknown: Converts an image of sound size in an encoding that is not known here.

    Returns:
        uint8 `[h, w, 3]`, contiguous.

    Raises:
        ImageError: The message is empty, damaged or in an encoding that is not known.
    """
    try:
        return np.ascontiguousarray(_unpack(message, unknown))
    except cv2.error as error:
        raise _unconverted(error) from error


def compressed_to_rgb(message: CompressedFields) -> np.ndarray:
    """Decompress an image to RGB.

    Returns:
        uint8 `[h, w, 3]`, contiguous.

    Raises:
        ImageError: The message is empty, damaged, no JPEG or PNG, or larger than `MAX_PIXELS`.
    """
    try:
        return np.ascontiguousarray(_decompress(message))
    except cv2.error as error:
        raise _unconverted(error) from error


def pack(image_hw3: np.ndarray, encoding: str) -> PackedImage:
    """Turn an image into the fields of a raw message.

    Args:
        image_hw3: uint8 RGB `[h, w, 3]`.
        encoding: One of `PUBLISHED_ENCODINGS`.

    Raises:
        ImageError: The encoding is another one, the array is no such image, or its width is odd
            and the encoding needs an even one.
    """
    _check(image_hw3)
    if encoding not in PUBLISHED_ENCODINGS:
        raise ImageError(
            'unknown_encoding',
            f'encoding {encoding!r} cannot be written; expected one of '
            + ', '.join(PUBLISHED_ENCODINGS),
        )
    pixels = np.ascontiguousarray(rgb_to_pixels(image_hw3, ENCODINGS[encoding]))
    height, width = pixels.shape[:2]
    return PackedImage(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == 'big' and pixels.itemsize > 1),
        step=pixels.nbytes // height,
        data=pixels.reshape(-1).view(np.uint8),
    )


def compress(
    image_hw3: np.ndarray, format: str = 'jpeg', quality: int = 90
) -> tuple[str, np.ndarray]:
    """Turn an image into the fields of a compressed message, as `image_transport` does for `rgb8`.

    Args:
        image_hw3: uint8 RGB `[h, w, 3]`.
        format: `jpeg` or `png`.
        quality: Of a JPEG, from 1 to 100.

    Returns:
        The message's `format`, and its `data` as uint8.

    Raises:
        ImageError: The format is another one, or the array is no such image.
    """
    _check(image_hw3)
    if format not in ('jpeg', 'png'):
        raise ImageError(
            'unknown_encoding', f'format {format!r} cannot be written; expected jpeg or png'
        )
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if format == 'jpeg' else []
    image_bgr = cv2.cvtColor(image_hw3, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(f'.{format}', image_bgr, options)
    if not written:
        raise ImageError('undecodable', f'OpenCV cannot write a {format} of {image_hw3.shape}')
    return f'rgb8; {format} compressed bgr8', data.reshape(-1)


def _unpack(message: RawFields, unknown: Callable[[RawFields], np.ndarray]) -> np.ndarray:
    height, width, step = message.height, message.width, message.step
    size = f'{width} x {height} {message.encoding!r} with step {step}'
    if not (height and width and len(message.data)):
        raise ImageError('empty', f'{size} and {len(message.data)} bytes: there are no pixels')
    if len(message.data) != height * step:
        raise ImageError(
            'size_mismatch',
            f'{size} has {len(message.data)} bytes; expected height * step = {height * step}',
        )
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        return unknown(message)
    if step < width * encoding.pixel_bytes:
        raise ImageError(
            'size_mismatch',
            f'{size}: a row is at least width * {encoding.pixel_bytes} = '
            f'{width * encoding.pixel_bytes} bytes',
        )
    dtype = np.dtype(encoding.dtype)
    pixels = np.ndarray(
        (height, width, encoding.channels),
        dtype.newbyteorder('>' if message.is_bigendian else '<'),
        buffer=message.data,
        strides=(step, encoding.pixel_bytes, dtype.itemsize),
    )
    # OpenCV takes padded rows as they are, but neither foreign byte order nor odd addresses.
    if pixels.dtype != dtype or not pixels.flags.aligned:
        pixels = pixels.astype(dtype)
    return pixels_to_rgb(pixels[:, :, 0] if encoding.channels == 1 else pixels, encoding)


def _decompress(message: CompressedFields) -> np.ndarray:
    # image_transport writes `ENCODING; CODEC compressed STORED`, most drivers just `jpeg`. The
    # codec is not read from there: the data says it itself, and the text is often wrong.
    source, _, rest = message.format.partition(';')
    if 'compressedDepth' in message.format:
        raise ImageError(
            'unknown_encoding', f'format {message.format!r} is a depth image; expected colours'
        )
    if not len(message.data):
        raise ImageError('empty', f'format {message.format!r} with 0 bytes: there are no pixels')
    data = np.frombuffer(message.data, np.uint8)
    size = _whole_size(data.tobytes())
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            'too_large',
            f'{size[1]} x {size[0]} pixels in {data.size} bytes; at most {MAX_PIXELS} are decoded',
        )
    # Nothing but what was measured is given to OpenCV, which knows many more formats.
    image = None if size is None else cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            'undecodable',
            f'{data.size} bytes of format {message.format!r} are no whole image; expected a JPEG '
            'or PNG',
        )
    if image.ndim == 2:
        encoding = ENCODINGS.get(source.strip())
        # A PNG keeps the mosaic as it is; a JPEG of one has been made grey (`mono8`).
        if encoding is not None and encoding.pattern and 'mono' not in rest:
            return pixels_to_rgb(image, encoding)
        return cv2.cvtColor(to_8_bit(image), cv2.COLOR_GRAY2RGB)
    image = to_8_bit(image)
    if rest and 'compressed bgr' not in rest and source.strip() in _COLOURS:
        # As image_transport reads it: the colours were compressed in the order RGB.
        return image[:, :, :3]
    code = cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(image, code)


def _whole_size(data: bytes) -> tuple[int, int] | None:
    # OpenCV fills what is missing at the end of a JPEG with grey and says nothing.
    cut = any(data.startswith(first) and last not in data for first, last in _MARKERS)
    return None if cut else compressed_size(data)


_MARKERS = ((b'\xff\xd8', b'\xff\xd9'), (b'\x89PNG', b'IEND'))

_COLOURS = frozenset(
    f'{order}{bits}' for order in ('rgb', 'bgr', 'rgba', 'bgra') for bits in (8, 16)
)


def _check(image_hw3: np.ndarray) -> None:
    if image_hw3.dtype != np.uint8 or image_hw3.ndim != 3 or image_hw3.shape[2] != 3:
        raise ImageError(
            'size_mismatch',
            f'got {image_hw3.dtype} of shape {image_hw3.shape}; expected uint8 [h, w, 3]',
        )
    if not image_hw3.size:
        raise ImageError('empty', f'shape {image_hw3.shape}: there are no pixels')


def _unconverted(error: cv2.error) -> ImageError:
    return ImageError('undecodable', f'OpenCV cannot convert it: {error}'.strip())
