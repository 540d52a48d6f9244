# SPDX-License-Identifier: Apache-2.0
"""The schedule says when each image is due, and how far its stamp is ahead."""

from itertools import islice, pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.ros.benchmarks.publisher import PublishingSchedule


def images(seconds, **options):
    schedule = PublishingSchedule(**options)
    return list(takewhile(lambda image: image.due < seconds - 1e-9, schedule.images()))


@given(cameras=st.integers(1, 8), rate=st.sampled_from([15.0, 30.0, 60.0]))
def test_cameras_have_their_rate_and_are_evenly_spaced(cameras, rate):
    due = images(2, cameras=cameras, rate=rate)
    for camera in range(cameras):
        own = [image.due for image in due if image.camera == camera]
        assert len(own) == 2 * rate
        assert [b - a for a, b in pairwise(own)] == pytest.approx([1 / rate] * (len(own) - 1))
    assert due[1].due - due[0].due == pytest.approx(1 / rate / cameras)
    assert {image.skew for image in due} == {0.0}


def test_a_gap_ends_each_stretch_of_time():
    due = [image.due for image in images(8, cameras=1, rate=10.0, gap_every=4.0, gap=1.5)]
    assert len(due) == 50
    assert not [time for time in due if time % 4 >= 2.5]


def test_stamps_jump_forward_and_back():
    due = images(6, cameras=1, rate=10.0, jump_every=2.0, jump=30.0)
    assert [image.skew for image in due] == [0.0] * 20 + [30.0] * 20 + [0.0] * 20


@pytest.mark.parametrize(
    ('options', 'why'),
    [
        ({'cameras': 0, 'rate': 30.0}, '0 cameras at 30 Hz'),
        ({'cameras': 1, 'rate': 0.0}, '1 cameras at 0 Hz'),
        ({'cameras': 1, 'rate': 30.0, 'gap_every': 2.0, 'gap': 2.0}, 'a gap of 2 s every 2 s'),
    ],
)
def test_an_impossible_schedule_is_refused(options, why):
    with pytest.raises(ValueError, match=why):
        islice(PublishingSchedule(**options).images(), 1)
