# SPDX-License-Identifier: Apache-2.0
"""Calibration frames: rendered from the tabletop, or read from a folder of videos."""

import numpy as np
import pytest

from step_ros.io.video import VideoError, VideoWriter
from step_ros.training.calibration import tabletop_frames, video_frames

RATE = 10.0


def write_video(path, *, frames, value):
    """Write a video whose frames grow brighter, from `value` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, size=(48, 32), rate=RATE, quality=5) as writer:
        for index in range(frames):
            image = np.full((32, 48, 3), value + 2 * index, dtype=np.uint8)
            writer.write(image, int(index * 1e9 / RATE))


def brightness(images):
    return [round(float(image.mean())) for image in images]


def test_tabletop_frames_are_all_different_and_repeatable():
    images = tabletop_frames(25, size=(30, 40))
    assert len(images) == 25
    assert {image.shape for image in images} == {(30, 40, 3)}
    assert len({image.tobytes() for image in images}) == 25
    for image, again in zip(images, tabletop_frames(12, size=(30, 40)), strict=False):
        np.testing.assert_array_equal(image, again)


def test_frames_are_spread_over_videos_and_their_length(tmp_path):
    write_video(tmp_path / 'one.mp4', frames=20, value=10)
    write_video(tmp_path / 'below' / 'two.mp4', frames=10, value=100)
    (tmp_path / 'notes.txt').write_text('no video')
    images = video_frames(tmp_path, 8)
    assert all(image.shape == (32, 48, 3) for image in images)
    # In the order of the paths, four of each: the first frame at or after each quarter begins.
    expected = [100 + 2 * index for index in (0, 3, 5, 8)]
    expected += [10 + 2 * index for index in (0, 5, 10, 15)]
    assert brightness(images) == pytest.approx(expected, abs=3)


def test_more_videos_than_frames_are_subsampled(tmp_path):
    for index in range(6):
        write_video(tmp_path / f'{index}.mp4', frames=3, value=40 * index + 10)
    assert brightness(video_frames(tmp_path, 3)) == pytest.approx([12, 92, 172], abs=4)


def test_short_videos_give_fewer_frames(tmp_path):
    write_video(tmp_path / 'short.mp4', frames=3, value=50)
    assert len(video_frames(tmp_path, 50)) == 3


def test_a_folder_without_videos_is_refused(tmp_path):
    (tmp_path / 'notes.txt').write_text('no video')
    with pytest.raises(VideoError, match='expected a folder with videos'):
        video_frames(tmp_path, 3)


def test_a_damaged_video_is_refused(tmp_path):
    (tmp_path / 'damaged.mp4').write_bytes(b'0123456789')
    with pytest.raises(VideoError, match=r'damaged\.mp4'):
        video_frames(tmp_path, 3)
