# SPDX-License-Identifier: Apache-2.0
"""Repeated warnings are logged with their count, separately for each camera and cause."""

from step_ros.reporting.throttled_warnings import RepeatedWarnings


def test_repeats_are_counted_and_others_are_logged_at_once():
    logged, now = [], [0.0]
    warnings = RepeatedWarnings(logged.append, period=5.0, clock=lambda: now[0])
    for second in range(7):
        now[0] = float(second)
        warnings.add('left', 'undecodable', 'not a JPEG')
    warnings.add('right', 'undecodable', 'not a JPEG')
    warnings.add('left', 'zero_stamp', 'no stamp')
    assert len(logged) == 4
    assert logged[0] == 'camera left: frame dropped, undecodable: not a JPEG'
    assert logged[1].endswith('(5 times since the last warning)')
    assert 'right' in logged[2]
    assert 'zero_stamp' in logged[3]
