# SPDX-License-Identifier: Apache-2.0
"""Read serialised image messages without deserialising them through rclpy.

A raw subscription hands over the serialised bytes. Their format is CDR (XCDR1: OMG DDS-XTypes 1.3,
7.4.1): after a header of four bytes, each number is aligned to a multiple of its size. The pixels
are not copied: a numpy array views them in place.
"""

import struct
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from step_ros.images.errors import FrameError
from step_ros.streaming.grid import NANOSECONDS

# The first two bytes name the encapsulation: plain CDR, big or little endian.
_BYTE_ORDERS = {b'\x00\x00': '>', b'\x00\x01': '<'}
_HEADER_BYTES = 4


class EncapsulationError(ValueError):
    """The message is not in plain CDR; rclpy may still be able to read it."""


@dataclass(slots=True, kw_only=True)
class CdrImage:
    """The fields of a `sensor_msgs/Image`; `data` views its bytes, uint8, read-only."""

    stamp_ns: int
    frame_id: str
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: np.ndarray


@dataclass(slots=True, kw_only=True)
class CdrCompressedImage:
    """The fields of a `sensor_msgs/CompressedImage`; `data` views its bytes, uint8, read-only."""

    stamp_ns: int
    frame_id: str
    format: str
    data: np.ndarray


def read_image(message: bytes) -> CdrImage:
    """Read a serialised `sensor_msgs/Image`.

    Raises:
        EncapsulationError: The message is not in plain CDR.
        FrameError: The message is damaged (`malformed`).
    """
    reader = _Reader(message, Image)
    return CdrImage(
        stamp_ns=reader.stamp('header.stamp'),
        frame_id=reader.string('header.frame_id'),
        height=reader.uint32('height'),
        width=reader.uint32('width'),
        encoding=reader.string('encoding'),
        is_bigendian=reader.uint8('is_bigendian'),
        step=reader.uint32('step'),
        data=reader.octets('data'),
    )


def read_compressed_image(message: bytes) -> CdrCompressedImage:
    """Read a serialised `sensor_msgs/CompressedImage`.

    Raises:
        EncapsulationError: The message is not in plain CDR.
        FrameError: The message is damaged (`malformed`).
    """
    reader = _Reader(message, CompressedImage)
    return CdrCompressedImage(
        stamp_ns=reader.stamp('header.stamp'),
        frame_id=reader.string('header.frame_id'),
        format=reader.string('format'),
        data=reader.octets('data'),
    )


class _Reader:
    """Reads the fields of a message in order."""

    def __init__(self, message: bytes, kind: type) -> None:
        self._message, self._kind = message, kind.__name__
        order = _BYTE_ORDERS.get(message[:2])
        if order is None or len(message) < _HEADER_BYTES:
            raise EncapsulationError(
                f'{self._kind} of {len(message)} bytes is not plain CDR: it begins with '
                f'{message[:2].hex(" ")!r}'
            )
        self._uint32 = _UINT32[order]
        self._stamp = _STAMP[order]
        self._at = _HEADER_BYTES

    def stamp(self, field: str) -> int:
        """Read seconds and nanoseconds; return nanoseconds."""
        seconds, nanoseconds = self._stamp.unpack_from(self._message, self._skip(field, 4, 8))
        return int(seconds) * NANOSECONDS + int(nanoseconds)

    def uint32(self, field: str) -> int:
        value: int = self._uint32.unpack_from(self._message, self._skip(field, 4, 4))[0]
        return value

    def uint8(self, field: str) -> int:
        return self._message[self._skip(field, 1, 1)]

    def string(self, field: str) -> str:
        """Read a string as rclpy does, with invalid UTF-8 replaced by U+FFFD."""
        size = self.uint32(field)
        start = self._skip(field, 1, size)
        if not size:
            return ''
        end = start + size - 1
        if self._message.find(b'\0', start, end + 1) != end:
            raise FrameError(
                'malformed', f'{self._kind}: {field} is not terminated by its only zero byte'
            )
        return self._message[start:end].decode('utf-8', 'replace')

    def octets(self, field: str) -> np.ndarray:
        """Return a view of a byte sequence, uint8, without copying it."""
        size = self.uint32(field)
        start = self._skip(field, 1, size)
        return np.frombuffer(self._message, np.uint8, size, start)

    def _skip(self, field: str, align: int, size: int) -> int:
        """Return the offset of a field, and advance past it."""
        start = self._at + (_HEADER_BYTES - self._at) % align
        if start + size > len(self._message):
            raise FrameError(
                'malformed',
                f'{self._kind} of {len(self._message)} bytes ends within {field}, which needs '
                f'{size} bytes from byte {start}',
            )
        self._at = start + size
        return start


_UINT32 = {order: struct.Struct(f'{order}I') for order in '<>'}
_STAMP = {order: struct.Struct(f'{order}iI') for order in '<>'}
