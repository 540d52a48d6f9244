"""Image messages to RGB arrays and back."""

import array
import sys

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from step_ros.ros.image_encodings import (
    ENCODINGS,
    PUBLISHED_ENCODINGS,
    ImageError,
    pixels_to_rgb,
    rgb_to_pixels,
    to_8_bit,
)

__all__ = ['ImageError', 'from_rgb', 'to_compressed', 'to_rgb']


def to_rgb(message: Image | CompressedImage) -> np.ndarray:
    """Convert an image message to RGB.

    Args:
        message: The message. A `rgb8` image without row padding is not copied: the result then
            shares the message's memory.

    Returns:
        uint8 `[h, w, 3]`, contiguous.

    Raises:
        ImageError: The message is empty, damaged or in an encoding that is not known.
    """
    try:
        if isinstance(message, CompressedImage):
            return np.ascontiguousarray(_decompress(message))
        return np.ascontiguousarray(_unpack(message))
    except cv2.error as error:
        raise ImageError('undecodable', f'OpenCV cannot convert it: {error}'.strip()) from error


def from_rgb(image_hw3: np.ndarray, encoding: str, header: Header) -> Image:
    """Write an image as a message.

    Args:
        image_hw3: uint8 RGB `[h, w, 3]`.
        encoding: One of `PUBLISHED_ENCODINGS`.
        header: Stamp and coordinate frame.

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
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(sys.byteorder == 'big' and pixels.itemsize > 1),
        step=pixels.nbytes // height,
        data=_bytes(pixels),
    )


def to_compressed(
    image_hw3: np.ndarray, header: Header, format: str = 'jpeg', quality: int = 90
) -> CompressedImage:
    """Compress an image into a message, as `image_transport` does for `rgb8` images.

    Args:
        image_hw3: uint8 RGB `[h, w, 3]`.
        header: Stamp and coordinate frame.
        format: `jpeg` or `png`.
        quality: Of a JPEG, from 1 to 100.

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
    return CompressedImage(
        header=header, format=f'rgb8; {format} compressed bgr8', data=_bytes(data)
    )


def _unpack(message: Image) -> np.ndarray:
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
        return _by_cv_bridge(message)
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


def _by_cv_bridge(message: Image) -> np.ndarray:
    # Only for encodings that are not known here. Those that are give the same result without it,
    # and a cv_bridge built for numpy 1 fails at its import once pip has brought numpy 2.
    try:
        from cv_bridge import CvBridge
    except Exception as error:
        raise ImageError(
            'unknown_encoding',
            f'encoding {message.encoding!r} is not known, and cv_bridge is not here to ask; '
            'known are ' + ', '.join(ENCODINGS),
        ) from error
    try:
        image_hw3: np.ndarray = CvBridge().imgmsg_to_cv2(message, 'rgb8')
    except Exception as error:
        raise ImageError(
            'unknown_encoding',
            f'cv_bridge cannot convert encoding {message.encoding!r} to rgb8: {error}',
        ) from error
    return image_hw3


def _decompress(message: CompressedImage) -> np.ndarray:
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
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if _is_whole(data.tobytes()) else None
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


def _is_whole(data: bytes) -> bool:
    # OpenCV fills what is missing at the end of a JPEG with grey and says nothing.
    return not any(data.startswith(first) and last not in data for first, last in _MARKERS)


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


def _bytes(pixels: np.ndarray) -> 'array.array[int]':
    # The one type that message fields take without looking at every byte.
    data = array.array('B')
    data.frombytes(pixels.view(np.uint8).data)
    return data
