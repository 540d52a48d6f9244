"""An image message as it travels: serialised once, stamped many times."""

import struct

import numpy as np
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from step_ros.ros.images import from_rgb
from step_ros.stream.grid import NANOSECONDS

# CDR begins with two bytes for the encoding, of which the second is odd for little endian, and two
# without meaning; then comes the header, and the stamp is its first field.
_STAMP_AT, _STAMP_END = 4, 12


class SerialisedImage:
    """A `sensor_msgs/Image` of noise in `rgb8`; a copy with another stamp costs a copy of bytes.

    Args:
        width: In pixels.
        height: In pixels.
        frame_id: Its coordinate frame.
    """

    def __init__(self, *, width: int, height: int, frame_id: str) -> None:
        random = np.random.default_rng(0)
        image_hw3 = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        message = bytes(serialize_message(from_rgb(image_hw3, 'rgb8', Header(frame_id=frame_id))))
        self._head, self._rest = message[:_STAMP_AT], message[_STAMP_END:]
        self._format = '<iI' if message[1] & 1 else '>iI'

    def stamped(self, stamp_ns: int) -> bytes:
        """Return the message with a stamp in nanoseconds."""
        stamp = struct.pack(self._format, *divmod(stamp_ns, NANOSECONDS))
        return b''.join((self._head, stamp, self._rest))
