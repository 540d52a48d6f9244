# SPDX-License-Identifier: Apache-2.0
"""Sources of the camera node: frame times, skipped frames, sizes, and action events."""

import numpy as np
import pytest
from fixtures.videos import write_matrix

from step_ros.cameras.sources import FixedRateTimes, TabletopSource, VideoSource, output_size
from step_ros.io.video import VideoWriter
from step_ros.msg import ActionEvent
from step_ros.ros.camera.player import TruthTrack
from step_ros.tabletop.simulator import Tabletop

SECOND = 1_000_000_000
# Frames at 0.0, 0.1, 0.2, 0.5 and 0.6 s, nominally 10 Hz.
TIMES = (0.0, 0.1, 0.2, 0.5, 0.6)


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'grey.mp4'
    with VideoWriter(path, size=(64, 48), rate=10.0) as writer:
        for index, time_s in enumerate(TIMES):
            writer.write(np.full((48, 64, 3), 50 * index, np.uint8), round(time_s * SECOND))
    return path


def video_source(path, *, rate=0.0, loop=False, width=0, height=0):
    return VideoSource(str(path), rate=rate, loop=loop, width=width, height=height)


def shown(source, count):
    """Return stream time in seconds and grey level of the next frames, none overdue."""
    frames = []
    while len(frames) < count and (time_ns := source.advance(0)) is not None:
        frames.append((time_ns / SECOND, round(source.image().mean() / 50)))
    return frames


def test_fixed_rate_times_do_not_drift():
    times = FixedRateTimes(30.0)
    stamps = [times.advance(0) for _ in range(3001)]
    assert stamps[3] == 100_000_000
    assert stamps[3000] == 100 * SECOND
    assert times.skipped == 0


def test_fixed_rate_times_skip_overdue_frames_not_late_ones():
    times = FixedRateTimes(10.0)
    assert times.advance(0) == 0
    assert times.advance(150_000_000) == 100_000_000
    assert times.skipped == 0
    assert times.advance(520_000_000) == 500_000_000
    assert times.skipped == 3
    times.restart()
    assert (times.advance(0), times.skipped) == (0, 0)


@pytest.mark.parametrize(
    ('width', 'height', 'own', 'expected'),
    [
        (0, 0, (1280, 719), (1280, 719)),
        (640, 0, (1280, 720), (640, 360)),
        (0, 240, (640, 480), (320, 240)),
        (300, 301, (640, 480), (300, 301)),
        (101, 0, (640, 480), (101, 76)),
    ],
)
def test_missing_size_follows_from_the_aspect_ratio(width, height, own, expected):
    assert output_size(width, height, own) == expected


def test_video_plays_at_its_own_times(video):
    frames = shown(video_source(video), 10)
    assert [frame[0] for frame in frames] == pytest.approx(TIMES)
    assert [frame[1] for frame in frames] == [0, 1, 2, 3, 4]


def test_video_at_a_rate_shows_the_newest_frame(video):
    frames = shown(video_source(video, rate=5.0), 10)
    assert frames == [(0.0, 0), (0.2, 2), (0.4, 2), (0.6, 4)]
    faster = shown(video_source(video, rate=20.0), 4)
    assert faster == [(0.0, 0), (0.05, 0), (0.1, 1), (0.15, 1)]


def test_looped_video_continues_in_stream_time(video):
    frames = shown(video_source(video, loop=True), 12)
    times = [frame[0] for frame in frames]
    assert [frame[1] for frame in frames] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert all(np.diff(times) > 0)
    assert times[6] - times[5] == pytest.approx(0.1, abs=2e-3)


def test_video_skips_overdue_frames(video):
    source = video_source(video)
    source.advance(0)
    assert source.advance(550_000_000) == pytest.approx(0.5 * SECOND, abs=1e6)
    assert source.skipped == 2
    source.restart()
    assert shown(source, 2)[0] == (0.0, 0)
    assert source.skipped == 0


def test_video_is_resized(video):
    source = video_source(video, width=32)
    source.advance(0)
    assert source.image().shape == (24, 32, 3)


def tabletop_source(rate=10.0, **options):
    values = {'seed': 1, 'split': 'test', 'view': 'front', 'width': 64, 'height': 48}
    return TabletopSource(rate=rate, **{**values, **options})


def test_tabletop_restart_gives_the_same_frames():
    source = tabletop_source()
    first = [(source.advance(0), source.image())[1] for _ in range(3)]
    source.restart()
    again = [(source.advance(0), source.image())[1] for _ in range(3)]
    assert np.array_equal(first, again)
    assert first[0].shape == (48, 64, 3)


def test_tabletop_needs_a_rate():
    with pytest.raises(ValueError, match='rate is 0'):
        tabletop_source(rate=0.0)


def test_action_events_have_the_times_of_the_segments():
    source, track = tabletop_source(rate=4.0), TruthTrack(camera='c', frame_id='optical')
    zero_ns, events = 7 * SECOND, []
    for _ in range(40):
        source.advance(0)
        events += track.events(source.segment(), zero_ns=zero_ns)
    starts = [e for e in events if e.type == ActionEvent.START and e.task == 'action']
    ends = [e for e in events if e.type == ActionEvent.END and e.task == 'action']
    assert len(starts) == len(ends) + 1 >= 3
    stamp = lambda t: t.sec * SECOND + t.nanosec  # noqa: E731
    assert stamp(starts[0].header.stamp) == zero_ns
    for start, end, following in zip(starts, ends, starts[1:], strict=False):
        assert start.label == end.label
        assert start.header.stamp == start.start_stamp == end.start_stamp
        assert end.header.stamp == following.header.stamp
        segment = Tabletop(seed=1, split='test').segment_at(
            (stamp(start.header.stamp) - zero_ns) / SECOND + 1e-6
        )
        assert segment.action == start.label
    assert {e.task for e in events} == {'action', 'verb', 'object'}
    assert all(e.camera == 'c' and e.header.frame_id == 'optical' for e in events)
    assert all(e.score == 1.0 for e in events)


def test_restart_sends_the_start_events_again():
    source, track = tabletop_source(), TruthTrack(camera='c', frame_id='')
    source.advance(0)
    assert len(track.events(source.segment(), zero_ns=0)) == 3
    assert track.events(source.segment(), zero_ns=0) == []
    track.restart()
    again = track.events(source.segment(), zero_ns=SECOND)
    assert [event.type for event in again] == 3 * [ActionEvent.START]


def test_video_source_shows_a_transposed_video_upright(tmp_path):
    path = tmp_path / 'phone.mp4'
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, :32] = 250
    with VideoWriter(path, size=(64, 32), rate=20) as writer:
        writer.write(image, 0)
    write_matrix(path, (0, 1, 1, 0))
    source = VideoSource(str(path), rate=0.0, loop=False, width=0, height=0)
    assert source.advance(0) == 0
    shown = source.image()
    assert shown.shape == (64, 32, 3)
    assert shown[:28].min() > 220
    assert shown[36:].max() < 30
