# SPDX-License-Identifier: Apache-2.0
"""Conversion between the fields of image messages and RGB arrays.

The functions need only the fields, so they convert ROS messages and messages of a bag alike. A
compressed image declares its size in the header (`compressed_size`). The size is checked before
any memory is allocated for the pixels.
"""

import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from step_ros.images.encodings import (
    ENCODINGS,
    KNOWN_ENCODINGS,
    PUBLISHED_ENCODINGS,
    Encoding,
    ImageError,
    PlanarEncoding,
    find_encoding,
    pixels_to_rgb,
    planes_to_rgb,
    rgb_to_pixels,
    to_8_bit,
)

# Limit of a decompressed image, 8192 x 8192: a header of a few bytes can declare gigabytes.
MAX_PIXELS = 1 << 26

# Drivers pad a buffer to whole pages of memory: 64 KiB are the largest usual ones.
_MAX_PADDING = 1 << 16

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'

# Markers of a JPEG (ITU T.81, table B.1): frame headers, markers without a length field, and
# markers after which no frame header follows.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKERS_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_END, _SCAN = 0xD9, 0xDA
_LAST_MARKERS = frozenset({_END, _SCAN})

# The next marker after the entropy-coded data of a scan: there a zero byte follows every 0xFF of
# the data, and restart markers (0xD0 to 0xD7) belong to it.
_MARKER_AFTER_SCAN = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]')

# Length of a frame header up to the width: marker, length, precision, height, width.
_HEADER_BYTES = 9

# Encodings whose compressed pixels may be in RGB order; see `_decompress`.
_COLOURS = frozenset(
    f'{order}{bits}' for order in ('rgb', 'bgr', 'rgba', 'bgra') for bits in (8, 16)
)


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
    """The fields of a `sensor_msgs/Image` to write.

    Attributes:
        height: Rows.
        width: Pixels in a row.
        encoding: One of `PUBLISHED_ENCODINGS`.
        is_bigendian: Whether 16 bit numbers are big-endian.
        step: Bytes in a row.
        data: The bytes, uint8 `[height * step]`.
    """

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: np.ndarray


def refuse_encoding(message: RawFields) -> np.ndarray:
    """Refuse a message whose encoding is unknown.

    Raises:
        ImageError: Always; lists the known encodings.
    """
    raise ImageError(
        'unknown_encoding',
        f'encoding {message.encoding!r} is unknown; expected one of ' + ', '.join(KNOWN_ENCODINGS),
    )


def raw_to_rgb(
    message: RawFields,
    *,
    unknown: Callable[[RawFields], np.ndarray] = refuse_encoding,
    grey_16uc1: bool = False,
) -> np.ndarray:
    """Convert a raw image to RGB.

    Args:
        message: The message. A `rgb8` image without row padding is not copied: the result then
            shares the message's memory.
        unknown: Converts a message whose encoding is unknown here.
        grey_16uc1: Whether `16UC1` is a grey image, as an infrared or thermal camera sends;
            otherwise it is refused as depth.

    Returns:
        uint8 `[h, w, 3]`, contiguous.

    Raises:
        ImageError: The message is empty or damaged, or its encoding is unknown.
    """
    try:
        return np.ascontiguousarray(_unpack(message, unknown, grey_16uc1))
    except cv2.error as error:
        raise _conversion_error(error) from error


def _unpack(
    message: RawFields, unknown: Callable[[RawFields], np.ndarray], grey_16uc1: bool
) -> np.ndarray:
    height, width, step = message.height, message.width, message.step
    size = f'{width} x {height} {message.encoding!r} with step {step}'
    if not (height and width and len(message.data)):
        raise ImageError('empty', f'{size} and {len(message.data)} bytes: no pixels')
    is_grey = grey_16uc1 and _is_16uc1(message.encoding)
    encoding = ENCODINGS['mono16'] if is_grey else find_encoding(message.encoding)
    if encoding is None:
        return unknown(message)
    if isinstance(encoding, PlanarEncoding):
        return planes_to_rgb(
            np.frombuffer(message.data, np.uint8),
            encoding,
            height=height,
            width=width,
            stride=_luma_stride(message, encoding, size),
        )
    return _unpack_pixels(message, encoding, size)


def _unpack_pixels(message: RawFields, encoding: Encoding, size: str) -> np.ndarray:
    height, width = message.height, message.width
    # A step of 0: the driver did not fill it in, and the rows are tightly packed.
    step = message.step or width * encoding.pixel_bytes
    if not _is_padded(len(message.data), height * step):
        raise ImageError(
            'size_mismatch',
            f'{size} has {len(message.data)} bytes; expected height * step = {height * step}',
        )
    if step < width * encoding.pixel_bytes:
        raise ImageError(
            'size_mismatch',
            f'{size}: expected a step of at least width * {encoding.pixel_bytes} = '
            f'{width * encoding.pixel_bytes} bytes',
        )
    dtype = np.dtype(encoding.dtype)
    pixels = np.ndarray(
        (height, width, encoding.channels),
        dtype.newbyteorder('>' if message.is_bigendian else '<'),
        buffer=message.data,
        strides=(step, encoding.pixel_bytes, dtype.itemsize),
    )
    # OpenCV accepts padded rows, but neither the other byte order nor unaligned addresses.
    if pixels.dtype != dtype or not pixels.flags.aligned:
        pixels = pixels.astype(dtype)
    return pixels_to_rgb(pixels[:, :, 0] if encoding.channels == 1 else pixels, encoding)


def _luma_stride(message: RawFields, encoding: PlanarEncoding, size: str) -> int:
    """Return the bytes in a row of Y, where the message leaves no doubt about it.

    Drivers disagree on `step`: bytes in a row of Y, or in a row of the whole image.
    """
    height, width, step, given = message.height, message.width, message.step, len(message.data)
    sizes = {step: round(step * height * encoding.rows)} if step >= width else {}
    if step in (0, round(width * encoding.rows)):
        sizes[width] = round(width * height * encoding.rows)
    fitting = [stride for stride, expected in sizes.items() if _is_padded(given, expected)]
    exact = [stride for stride in fitting if sizes[stride] == given]
    for strides in (exact, fitting):
        if len(strides) == 1:
            return strides[0]
    if fitting or (step >= width and given == height * step):
        # Both readings fit; or the height counts the rows of the colours; or these are missing.
        raise ImageError(
            'unknown_encoding',
            f'{size} and {given} bytes: the layout of the planes is unknown; expected a height '
            f'without the rows of the colours, and height * step * {encoding.rows:g} = '
            f'{round(height * step * encoding.rows)} bytes',
        )
    raise ImageError(
        'size_mismatch',
        f'{size} has {given} bytes; expected height * step * {encoding.rows:g} = '
        f'{round(height * max(step, width) * encoding.rows)}',
    )


def _is_16uc1(encoding: str) -> bool:
    return encoding.strip().lower() == '16uc1'


def _is_padded(given: int, expected: int) -> bool:
    """Return whether there are all bytes, and no more after them than a page of memory."""
    return expected <= given < expected + _MAX_PADDING


def compressed_to_rgb(message: CompressedFields, *, grey_16uc1: bool = False) -> np.ndarray:
    """Decompress an image to RGB.

    Args:
        message: The message.
        grey_16uc1: Whether a compressed `16UC1` image is grey; otherwise it is refused as depth.

    Returns:
        uint8 `[h, w, 3]`, contiguous.

    Raises:
        ImageError: The message is empty or damaged, is neither JPEG nor PNG, or is larger than
            `MAX_PIXELS`.
    """
    try:
        return np.ascontiguousarray(_decompress(message, grey_16uc1))
    except cv2.error as error:
        raise _conversion_error(error) from error


def _decompress(message: CompressedFields, grey_16uc1: bool) -> np.ndarray:
    # image_transport writes `ENCODING; CODEC compressed STORED`, most drivers write `jpeg`. The
    # codec comes from the data instead, because this text is often wrong.
    source, _, rest = message.format.partition(';')
    is_depth = _is_16uc1(source) and not grey_16uc1
    if is_depth or 'compressedDepth' in message.format:
        raise ImageError(
            'unknown_encoding',
            f'format {message.format!r} is a depth image; expected a colour image',
        )
    if not len(message.data):
        raise ImageError('empty', f'format {message.format!r} with 0 bytes: no pixels')
    data = np.frombuffer(message.data, np.uint8)
    size = _complete_size(data.tobytes())
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            'too_large',
            f'{size[1]} x {size[0]} pixels in {data.size} bytes; the limit is {MAX_PIXELS} pixels',
        )
    # OpenCV decodes many more formats: give it only data whose size was checked.
    image = None if size is None else cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            'undecodable',
            f'{data.size} bytes of format {message.format!r} are not a complete image; expected '
            'a JPEG or PNG',
        )
    if image.ndim == 2:
        encoding = find_encoding(source.strip())
        # A PNG keeps a Bayer mosaic; for a JPEG, image_transport converts it to grey (`mono8`).
        if isinstance(encoding, Encoding) and encoding.pattern and 'mono' not in rest:
            return pixels_to_rgb(image, encoding)
        return cv2.cvtColor(to_8_bit(image), cv2.COLOR_GRAY2RGB)
    image = to_8_bit(image)
    if rest and 'compressed bgr' not in rest and source.strip() in _COLOURS:
        # As in image_transport, the colours were compressed in RGB order.
        return image[:, :, :3]
    code = cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(image, code)


def _conversion_error(error: cv2.error) -> ImageError:
    return ImageError('undecodable', f'OpenCV cannot convert the image: {error}'.strip())


def pack(image_hw3: np.ndarray, encoding: str) -> PackedImage:
    """Return the fields of a raw message for an image.

    Args:
        image_hw3: uint8 RGB `[h, w, 3]`.
        encoding: One of `PUBLISHED_ENCODINGS`.

    Raises:
        ImageError: The encoding cannot be written, the array is not an RGB image, or its width is
            odd and the encoding needs an even one.
    """
    _check_image(image_hw3)
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
    """Return the fields of a compressed message, as `image_transport` writes them for `rgb8`.

    Args:
        image_hw3: uint8 RGB `[h, w, 3]`.
        format: `jpeg` or `png`.
        quality: JPEG quality, from 1 to 100.

    Returns:
        The message's `format`, and its `data` as uint8.

    Raises:
        ImageError: The format cannot be written, or the array is not an RGB image.
    """
    _check_image(image_hw3)
    if format not in ('jpeg', 'png'):
        raise ImageError(
            'unknown_encoding', f'format {format!r} cannot be written; expected jpeg or png'
        )
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if format == 'jpeg' else []
    image_bgr = cv2.cvtColor(image_hw3, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(f'.{format}', image_bgr, options)
    if not written:
        raise ImageError(
            'undecodable', f'OpenCV cannot write a {format} of shape {image_hw3.shape}'
        )
    return f'rgb8; {format} compressed bgr8', data.reshape(-1)


def _check_image(image_hw3: np.ndarray) -> None:
    if image_hw3.dtype != np.uint8 or image_hw3.ndim != 3 or image_hw3.shape[2] != 3:
        raise ImageError(
            'size_mismatch',
            f'got {image_hw3.dtype} of shape {image_hw3.shape}; expected uint8 [h, w, 3]',
        )
    if not image_hw3.size:
        raise ImageError('empty', f'shape {image_hw3.shape}: no pixels')


def _complete_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width of a complete JPEG or PNG; None for a truncated one."""
    # OpenCV fills the missing end of a JPEG with grey; old versions report no error.
    return compressed_size(data) if is_complete(data) else None


def is_complete(data: bytes) -> bool:
    """Return whether a JPEG or PNG reaches its own end marker; False for other data.

    The end of a preview inside does not count: it lies within a segment, which is skipped whole.
    """
    if data.startswith(_PNG):
        return _png_is_complete(data)
    return data.startswith(_JPEG) and _jpeg_is_complete(data)


def _png_is_complete(data: bytes) -> bool:
    at = len(_PNG)
    # A chunk: length, type, content, checksum.
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], 'big')
        is_end = data[at + 4 : at + 8] == b'IEND'
        at += 12 + length
        if is_end:
            return at <= len(data)
    return False


def _end_of_segment(data: bytes, at: int) -> int:
    """Return where the JPEG segment ends whose marker begins at `at`."""
    marker = data[at + 1]
    if marker == 0xFF:  # a fill byte
        return at + 1
    if marker in _MARKERS_WITHOUT_LENGTH or not marker:
        return at + 2
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], 'big')


def _jpeg_is_complete(data: bytes) -> bool:
    at = len(_JPEG)
    while 0 <= (at := data.find(b'\xff', at)) < len(data) - 1:
        marker = data[at + 1]
        if marker == _END:
            return True
        at = _end_of_segment(data, at)
        if marker == _SCAN:
            found = _MARKER_AFTER_SCAN.search(data, at)
            if found is None:
                return False
            at = found.start()
    return False


def compressed_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width in the header of a JPEG or PNG; None for other data."""
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
    # Decoders skip stray bytes between segments, so this search must skip them too.
    while 0 <= (at := data.find(b'\xff', at)) <= len(data) - _HEADER_BYTES:
        marker = data[at + 1]
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack_from('>HH', data, at + 5)
            return height, width
        if marker in _LAST_MARKERS:
            return None
        at = _end_of_segment(data, at)
    return None
