"""Read video files frame by frame, each frame with its presentation time."""

from fractions import Fraction

import av
import numpy as np
import pytest

from step_ros.io.video import VideoError, VideoFrame, VideoReader

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


@pytest.mark.parametrize(
    ('angle', 'shape'), [(90, (64, 48, 3)), (-90, (64, 48, 3)), (180, (48, 64, 3))]
)
def test_frames_are_rotated_upright(angle, shape):
    image = np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 3)

    class Decoded:
        rotation = angle

        def to_ndarray(self, format):
            return image

    upright = VideoFrame(0.0, Decoded()).to_rgb()
    assert upright.shape == shape
    assert np.array_equal(upright, np.rot90(image, angle // 90))


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
