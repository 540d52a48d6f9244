# SPDX-License-Identifier: Apache-2.0
"""Read video files frame by frame, each frame with its presentation time."""

from fractions import Fraction

import av
import numpy as np
import pytest
from fixtures.videos import write_matrix
from PIL import Image

from step_ros.datasets.frames import index_video, read_frames
from step_ros.io.video import VideoError, VideoReader, VideoWriter

TIMES_MS = (0, 40, 80, 200, 240, 400)


def flat(value, width=64, height=48):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """Return a video of flat grey images, at uneven times that do not begin at zero."""
    path = tmp_path_factory.mktemp('video') / 'uneven.mp4'
    write(path, [(1000 + time_ms, 40 * index) for index, time_ms in enumerate(TIMES_MS)])
    return path


def write(path, frames, codec='libx264', rate=25):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_ms, value in frames:
            frame = av.VideoFrame.from_ndarray(flat(value), format='rgb24')
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_frame_times_count_from_the_first_frame(video):
    with VideoReader(video) as reader:
        frames = list(reader)
    assert [frame.time_s for frame in frames] == pytest.approx(
        [time_ms / 1000 for time_ms in TIMES_MS], abs=1e-3
    )


def test_frames_are_rgb(video):
    with VideoReader(video) as reader:
        images = [frame.to_rgb() for frame in reader]
    for index, image in enumerate(images):
        assert image.shape == (48, 64, 3)
        assert image.dtype == np.uint8
        assert image.mean() == pytest.approx(40 * index, abs=4)


def test_size_rate_and_duration(video):
    with VideoReader(str(video)) as reader:
        assert (reader.width, reader.height) == (64, 48)
        assert reader.rate > 0
        assert reader.duration_s == pytest.approx(0.4, abs=0.1)


def test_new_iteration_starts_again_and_ends_the_last_one(video):
    with VideoReader(video) as reader:
        first = iter(reader)
        next(first)
        assert len(list(reader)) == len(TIMES_MS)
        assert next(first, None) is None


def test_frames_outlive_the_reader(video):
    with VideoReader(video) as reader:
        frame = list(reader)[2]
    assert frame.to_rgb().mean() == pytest.approx(80, abs=4)


def test_closed_reader_refuses_a_new_iteration(video):
    reader = VideoReader(video)
    under_way = iter(reader)
    next(under_way)
    reader.close()
    reader.close()
    assert next(under_way, None) is None
    with pytest.raises(VideoError, match='closed'):
        iter(reader)


# Display matrix (a, b, c, d): a stored pixel (x, y) is shown at (a x + c y, b x + d y). EXIF
# numbers the same orientations from 1 to 8.
ORIENTATIONS = {
    'upright': (1, (1, 0, 0, 1), lambda image: image),
    'mirrored': (2, (-1, 0, 0, 1), lambda image: image[:, ::-1]),
    'turned by 180': (3, (-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
    'upside down': (4, (1, 0, 0, -1), lambda image: image[::-1]),
    'transposed': (5, (0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    'turned clockwise': (6, (0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    'transposed the other way': (7, (0, -1, -1, 0), lambda i: i[::-1, ::-1].transpose(1, 0, 2)),
    'turned counterclockwise': (8, (0, -1, 1, 0), lambda image: np.rot90(image)),
}


def corners():
    """Return an image that looks different in each of the eight orientations."""
    image = np.full((48, 64, 3), 128, np.uint8)
    image[:16, :16] = (250, 0, 0)
    image[:16, -16:] = (0, 0, 250)
    image[-16:, :16] = 250
    return image


@pytest.fixture(scope='module')
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp('stored') / 'stored.mp4'
    with VideoWriter(path, size=(64, 48), rate=20, quality=4) as writer:
        for index in range(4):
            writer.write(corners(), index * 50_000_000)
    return path


@pytest.mark.parametrize('orientation', ORIENTATIONS)
def test_video_is_shown_in_its_orientation(orientation, stored, tmp_path):
    _, matrix, upright = ORIENTATIONS[orientation]
    path = tmp_path / 'video.mp4'
    path.write_bytes(stored.read_bytes())
    write_matrix(path, matrix)
    expected = upright(corners()).astype(int)
    with VideoReader(path) as reader:
        frame = next(iter(reader))
        assert frame.size == (reader.width, reader.height) == expected.shape[1::-1]
        assert np.abs(frame.to_rgb() - expected).mean() < 8
    # Training reads single frames by another way.
    read = read_frames(index_video(path), [2])[0]
    assert np.abs(read - expected).mean() < 8


@pytest.mark.parametrize('orientation', ORIENTATIONS)
def test_jpeg_is_shown_in_its_exif_orientation(orientation, tmp_path):
    number, _, upright = ORIENTATIONS[orientation]
    exif = Image.Exif()
    exif[0x0112] = number
    path = tmp_path / 'picture.jpg'
    Image.fromarray(corners()).save(path, exif=exif, quality=95, subsampling=0)
    with VideoReader(path) as reader:
        image = next(iter(reader)).to_rgb()
    assert image.shape == upright(corners()).shape
    assert np.abs(image - upright(corners()).astype(int)).mean() < 8


def test_tilted_display_matrix_is_refused(stored, tmp_path):
    path = tmp_path / 'tilted.mp4'
    path.write_bytes(stored.read_bytes())
    write_matrix(path, (0.7, 0.7, -0.7, 0.7))
    with pytest.raises(VideoError, match=r'tilted\.mp4: its display matrix .* is tilted'):
        VideoReader(path)


def test_empty_display_matrix_changes_nothing(stored, tmp_path):
    path = tmp_path / 'empty.mp4'
    path.write_bytes(stored.read_bytes())
    write_matrix(path, (0, 0, 0, 0))
    with VideoReader(path) as reader:
        assert np.abs(next(iter(reader)).to_rgb() - corners().astype(int)).mean() < 8


def test_reading_stops_where_time_stamps_begin_anew(tmp_path):
    path = tmp_path / 'joined.ts'
    write(path, [(40 * index, 8 * index) for index in range(25)])
    path.write_bytes(path.read_bytes() * 2)
    with VideoReader(path) as reader:
        frames = iter(reader)
        # No frame from before that place is lost.
        for index in range(25):
            assert next(frames).time_s == pytest.approx(0.04 * index, abs=1e-3)
        with pytest.raises(VideoError, match=r'time stamps begin anew after 0\.960 s'):
            next(frames)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(VideoError, match=r'nowhere\.mp4: there is no such file') as caught:
        VideoReader(tmp_path / 'nowhere.mp4')
    assert caught.value.path == tmp_path / 'nowhere.mp4'


def test_file_that_is_no_video_is_refused(tmp_path):
    path = tmp_path / 'text.mp4'
    path.write_text('no video, and long enough for FFmpeg to probe' * 20)
    with pytest.raises(VideoError, match='cannot open it as a video'):
        VideoReader(path)
    with pytest.raises(VideoError, match='cannot open it as a video'):
        VideoReader(tmp_path)


def test_file_without_a_video_stream_is_refused(tmp_path):
    path = tmp_path / 'sound.wav'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout='mono')
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(VideoError, match='no video stream'):
        VideoReader(path)


def test_truncated_file_is_refused(video, tmp_path):
    path = tmp_path / 'truncated.mp4'
    path.write_bytes(video.read_bytes()[:600])
    with pytest.raises(VideoError, match='cannot'):
        VideoReader(path)


def test_error_of_a_damaged_part_gives_its_time(tmp_path):
    path = tmp_path / 'damaged.mp4'
    write(path, [(40 * index, 8 * index) for index in range(30)])
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        places = [(packet.pos, packet.size) for packet in packets[10:20]]
    data = bytearray(path.read_bytes())
    for position, size in places:
        data[position : position + size] = b'\xff' * size
    path.write_bytes(data)
    with VideoReader(path) as reader, pytest.raises(VideoError, match=r'decoded after 0\.\d+ s'):
        list(reader)
