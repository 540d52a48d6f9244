# SPDX-License-Identifier: Apache-2.0
"""Write videos and read them back, at the frames' own times."""

import av
import numpy as np
import pytest

from step_ros.io.video import VideoWriter


def test_written_frames_and_times_are_read_back(tmp_path):
    path = tmp_path / 'out.mp4'
    stamps_ms = [0, 100, 150, 400]
    with VideoWriter(path, size=(64, 48), rate=10) as writer:
        for index, stamp in enumerate(stamps_ms):
            image = np.full((48, 64, 3), 60 * index, dtype=np.uint8)
            writer.write(image, 5_000_000_000 + stamp * 1_000_000)
        writer.write(image, 5_000_000_000)  # earlier than the last frame: skipped
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert [float(frame.time) for frame in frames] == pytest.approx(
        [stamp / 1000 for stamp in stamps_ms], abs=1e-3
    )
    levels = [frame.to_ndarray(format='rgb24').mean() for frame in frames]
    assert levels == pytest.approx([0, 60, 120, 180], abs=6)


def test_second_close_does_nothing(tmp_path):
    with VideoWriter(tmp_path / 'out.mp4', size=(64, 48), rate=10) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8), 0)
        writer.close()
    with av.open(str(tmp_path / 'out.mp4')) as container:
        assert len(list(container.decode(video=0))) == 1
