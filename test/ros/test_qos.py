# SPDX-License-Identifier: Apache-2.0
"""The reliability of a subscription follows that of the publishers."""

import pytest
from rclpy.qos import ReliabilityPolicy

from step_ros.ros.qos import choose_reliability

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


@pytest.mark.parametrize(
    ('wanted', 'offered', 'chosen'),
    [
        ('auto', [], BEST_EFFORT),
        ('auto', [RELIABLE], RELIABLE),
        ('auto', [BEST_EFFORT], BEST_EFFORT),
        ('auto', [RELIABLE, BEST_EFFORT], BEST_EFFORT),
        ('reliable', [BEST_EFFORT], RELIABLE),
        ('best_effort', [RELIABLE], BEST_EFFORT),
    ],
)
def test_auto_is_reliable_only_if_all_publishers_are(wanted, offered, chosen):
    assert choose_reliability(wanted, offered) == chosen
