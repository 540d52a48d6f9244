# SPDX-License-Identifier: Apache-2.0
"""Frame counts by outcome, read from diagnostics."""

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from step_ros.ros.clients.frame_counts import FrameCounts, read_frame_counts


def status(**values):
    return DiagnosticStatus(
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()]
    )


def test_every_frame_is_counted_once():
    counts = read_frame_counts(
        status(
            received=20,
            used=5,
            waiting=2,
            start=1,
            new=4,
            off_grid=8,
            late=3,
            queue_overflow=1,
            missed_slots=7,
            stamp_age_ms=12,
        )
    )
    assert counts == FrameCounts(
        received=20,
        used=5,
        off_grid=8,
        waiting=2,
        dropped={'late': 3, 'queue_overflow': 1},
        missed_slots=7,
    )
    assert counts.lost == 4
    assert counts.unaccounted == 1


def test_a_camera_without_frames_has_no_counts():
    assert read_frame_counts(status()) == FrameCounts()


def test_values_that_are_words_are_no_counts():
    assert read_frame_counts(status(received=3, state='overloaded')).dropped == {}


def test_counts_since_an_earlier_time_are_differences():
    later = FrameCounts(received=9, used=4, off_grid=3, dropped={'late': 2}, missed_slots=1)
    earlier = FrameCounts(received=5, used=2, off_grid=3, dropped={'late': 0})
    since = later - earlier
    assert (since.received, since.used, since.off_grid) == (4, 2, 0)
    assert since.dropped == {'late': 2}
    assert since.missed_slots == 1
    assert since.unaccounted == 0
