# SPDX-License-Identifier: Apache-2.0
"""Which cameras no longer send frames."""

from step_ros.streaming.liveness import StaleCameraDetector

SECOND = 1_000_000_000


def make_detector(timeout=2):
    counts = {'front': 0, 'side': 0}
    return counts, StaleCameraDetector(
        list(counts), received=counts.get, timeout_ns=timeout * SECOND
    )


def test_camera_without_frames_is_lost_after_the_timeout():
    counts, detector = make_detector()
    assert detector.lost(10 * SECOND) == frozenset()
    counts['side'] += 1
    assert detector.lost(11 * SECOND) == frozenset()
    assert detector.lost(12 * SECOND) == {'front'}
    assert detector.lost(13 * SECOND) == {'front', 'side', 'fused'}
    counts['front'] += 1
    assert detector.lost(14 * SECOND) == {'side'}


def test_clock_that_jumps_back_restarts_the_timeout():
    _, detector = make_detector()
    detector.lost(10 * SECOND)
    assert detector.lost(1 * SECOND) == frozenset()
    assert detector.lost(2 * SECOND) == frozenset()
    assert detector.lost(3 * SECOND) == {'front', 'side', 'fused'}


def test_timeout_zero_loses_no_camera():
    _, detector = make_detector(timeout=0)
    detector.lost(1)
    assert detector.lost(1000 * SECOND) == frozenset()
