# SPDX-License-Identifier: Apache-2.0
"""A serialised image with a new stamp differs in nothing but the stamp."""

import pytest
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from step_ros.ros.benchmarks.publisher import SerialisedImage
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.images import to_rgb


@pytest.mark.parametrize('stamp_ns', [1, 1_700_000_000_123_456_789, 2**31 * 10**9 - 1])
def test_only_the_stamp_changes(stamp_ns):
    image = SerialisedImage(width=6, height=4, frame_id='optical')
    first, later = (deserialize_message(image.stamped(stamp), Image) for stamp in (5, stamp_ns))
    assert to_nanoseconds(later.header.stamp) == stamp_ns
    assert later.header.frame_id == 'optical'
    assert to_rgb(later).shape == (4, 6, 3)
    assert (to_rgb(first) == to_rgb(later)).all()
    assert to_rgb(later).std() > 0
