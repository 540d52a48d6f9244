"""How large a compressed image will be, from its header: before any memory is taken for it."""

import struct

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
