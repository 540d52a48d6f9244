# SPDX-License-Identifier: Apache-2.0
"""Cameras to record examples from."""

import numpy as np
import pytest
from fixtures.videos import write_matrix

from step_ros.cameras.recording import (
    DEMO_SIZE,
    DemoCamera,
    FileCamera,
    check_demo_label,
    open_camera,
)
from step_ros.io.video import VideoError, VideoWriter


def test_source_text_chooses_the_camera(tmp_path, put_video):
    put_video(tmp_path / 'a.mp4')
    assert isinstance(open_camera('demo'), DemoCamera)
    assert isinstance(open_camera(str(tmp_path / 'a.mp4')), FileCamera)
    with pytest.raises(VideoError, match=r'/dev/video987: no camera can be opened'):
        open_camera('987')
    with pytest.raises(VideoError, match=r'gone\.mp4: there is no such file'):
        open_camera(str(tmp_path / 'gone.mp4'))


def test_file_camera_continues_where_the_last_reader_stopped(tmp_path, put_video):
    put_video(tmp_path / 'a.mp4')
    camera = FileCamera(tmp_path / 'a.mp4')
    first, _ = next(camera.frames('open'))
    rest = [stamp_ns for stamp_ns, _ in camera.frames('close')]
    camera.close()
    assert first == 0
    assert len(rest) == 9
    assert np.all(np.diff([first, *rest]) > 0)


def test_file_camera_gives_a_mirrored_video_as_it_is_shown(tmp_path):
    path = tmp_path / 'selfie.mp4'
    image = np.zeros((32, 64, 3), np.uint8)
    image[:, :32] = 250
    with VideoWriter(path, size=(64, 32), rate=20) as writer:
        writer.write(image, 0)
    write_matrix(path, (-1, 0, 0, 1))
    camera = FileCamera(path)
    _, shown = next(camera.frames('open'))
    camera.close()
    assert shown[:, :28].max() < 30
    assert shown[:, 36:].min() > 220


def test_demo_camera_acts_in_another_scene_each_time():
    camera = DemoCamera(seed=3)
    label = 'open drawer'
    one, two = (list(camera.frames(label)) for _ in range(2))
    stamps_ns = [stamp_ns for stamp_ns, _ in (*one, *two)]
    assert np.all(np.diff(stamps_ns) > 0)
    assert one[0][1].shape == (DEMO_SIZE[1], DEMO_SIZE[0], 3)
    assert not np.array_equal(one[0][1], two[0][1])


def test_demo_refuses_an_unknown_label():
    with pytest.raises(ValueError, match=r"label 'dance': the demo cannot act it out; .*drawer"):
        check_demo_label('dance')
