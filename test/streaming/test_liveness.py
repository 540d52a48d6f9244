"""Which cameras have fallen silent, and which only seem to."""

from step_ros.streaming.liveness import StaleCameraDetector

SECOND = 1_000_000_000


def watch(timeout=2):
    counts = {'front': 0, 'side': 0}
    return counts, StaleCameraDetector(
        list(counts), received=counts.get, timeout_ns=timeout * SECOND
    )


def test_a_camera_is_lost_when_it_has_sent_nothing_for_long_enough():
    counts, watched = watch()
    assert watched.lost(10 * SECOND) == frozenset()
    counts['side'] += 1
    assert watched.lost(11 * SECOND) == frozenset()
    assert watched.lost(12 * SECOND) == {'front'}
    assert watched.lost(13 * SECOND) == {'front', 'side', 'fused'}
    counts['front'] += 1
    assert watched.lost(14 * SECOND) == {'side'}


def test_when_the_clock_jumps_back_the_time_begins_anew():
    _, watched = watch()
    watched.lost(10 * SECOND)
    assert watched.lost(1 * SECOND) == frozenset()
    assert watched.lost(2 * SECOND) == frozenset()
    assert watched.lost(3 * SECOND) == {'front', 'side', 'fused'}


def test_without_a_timeout_none_is_ever_lost():
    _, watched = watch(timeout=0)
    watched.lost(1)
    assert watched.lost(1000 * SECOND) == frozenset()
