"""Repeated warnings are said now and then, with a count, apart for each camera and cause."""

from step_ros.reporting.throttled_warnings import RepeatedWarnings


def test_repeats_are_counted_and_others_are_not_held_back():
    said, now = [], [0.0]
    warnings = RepeatedWarnings(said.append, period=5.0, clock=lambda: now[0])
    for second in range(7):
        now[0] = float(second)
        warnings.add('left', 'undecodable', 'not a JPEG')
    warnings.add('right', 'undecodable', 'not a JPEG')
    warnings.add('left', 'zero_stamp', 'no stamp')
    assert len(said) == 4
    assert said[0] == 'camera left: frame dropped, undecodable: not a JPEG'
    assert said[1].endswith('(5 times since the last warning)')
    assert 'right' in said[2]
    assert 'zero_stamp' in said[3]
