# SPDX-License-Identifier: Apache-2.0
"""Frames read by their numbers equal those of reading the video from the start."""

from fractions import Fraction

import av
import numpy as np
import pytest

from step_ros.datasets.clip import Span
from step_ros.datasets.frames import index_video, read_frames, span_frames
from step_ros.io.video import VideoError, VideoReader

FRAMES = 60


def image(number):
    """Return a picture that shows its number: a grey level and a bar that moves."""
    picture = np.full((48, 64, 3), (number * 4) % 256, np.uint8)
    picture[:, number : number + 4] = (255, 0, 0)
    return picture


def write(path, codec, *, rate=25, uneven=False, **options):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
        base = Fraction(1, 1000) if uneven else Fraction(1, rate)
        stream.codec_context.time_base = base
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(image(number), format='rgb24')
            frame.pts, frame.time_base = (40 * number + 13 * (number % 2), base)
            if not uneven:
                frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


KINDS = {
    'mp4 with B-frames': ('clip.mp4', 'libx264', {'bf': '3', 'g': '12'}),
    'mp4 of one key frame': ('long.mp4', 'libx264', {'g': '250'}),
    'uneven mp4': ('uneven.mp4', 'libx264', {'uneven': True, 'g': '12'}),
    'avi': ('clip.avi', 'mpeg4', {'g': '12'}),
    'avi with B-frames': ('b.avi', 'mpeg4', {'g': '12', 'bf': '2'}),
    'avi of pictures': ('pictures.avi', 'mjpeg', {}),
    'webm': ('clip.webm', 'libvpx-vp9', {'g': '12', 'cpu-used': '8', 'deadline': 'realtime'}),
    'without time stamps': ('clip.h264', 'libx264', {'bf': '0'}),
}


@pytest.fixture(scope='module', params=KINDS)
def video(request, tmp_path_factory):
    name, codec, options = KINDS[request.param]
    return write(tmp_path_factory.mktemp('videos') / name, codec, **options)


@pytest.fixture(scope='module')
def mp4(tmp_path_factory):
    return write(tmp_path_factory.mktemp('videos') / 'clip.mp4', 'libx264', g='12', bf='3')


@pytest.fixture(scope='module')
def played(video):
    with VideoReader(video) as reader:
        return [(frame.time_s, frame.to_rgb()) for frame in reader]


def test_index_has_the_presentation_times(video, played):
    index = index_video(video)
    assert len(index) == len(played) == FRAMES
    assert index.stamps_ns[0] == 0
    np.testing.assert_allclose(index.stamps_ns / 1e9, [time for time, _ in played], atol=2e-3)


@pytest.mark.parametrize(
    'numbers', [[0], [59], [30, 31, 32], [5, 20, 41, 58], [40, 7, 7, 13], list(range(60))]
)
def test_frames_equal_those_of_sequential_reading(video, played, numbers):
    images = read_frames(index_video(video), numbers)
    assert images.shape == (len(numbers), 48, 64, 3)
    for number, picture in zip(numbers, images, strict=True):
        assert np.array_equal(picture, played[number][1]), number


def test_span_in_frames_or_seconds_selects_its_frames(mp4):
    index = index_video(mp4)
    assert span_frames(index, None).tolist() == list(range(FRAMES))
    assert span_frames(index, Span(start=10, end=14, unit='frames')).tolist() == [10, 11, 12, 13]
    assert span_frames(index, Span(start=0.4, end=0.52, unit='seconds')).tolist() == [10, 11, 12]
    # Consecutive spans share no frame and lose none.
    spans = [
        Span(start=second / 10, end=(second + 1) / 10, unit='seconds') for second in range(24)
    ]
    found = np.concatenate([span_frames(index, span) for span in spans])
    assert found.tolist() == list(range(FRAMES))


@pytest.mark.parametrize(
    ('span', 'why'),
    [
        (Span(start=50, end=61, unit='frames'), 'span 50 to 61: the video has 60 frames'),
        (Span(start=7, end=9, unit='seconds'), r'7 s to 9 s holds no frame; the last is at 2\.36'),
        (
            Span(start=1, end=9, unit='seconds'),
            r'1 s to 9 s ends after the video; expected at most 2\.400 s \(60 frames\)',
        ),
    ],
)
def test_span_beyond_the_video_is_refused(mp4, span, why):
    with pytest.raises(VideoError, match=why):
        span_frames(index_video(mp4), span)


@pytest.mark.parametrize(('start', 'end'), [(-1, 3), (3, 3), (4, 2)])
def test_empty_span_is_refused(start, end):
    with pytest.raises(ValueError, match='expected 0 <= start < end'):
        Span(start=start, end=end, unit='frames')


def test_missing_frame_number_is_refused(mp4):
    index = index_video(mp4)
    for numbers in ([60], [-1], []):
        with pytest.raises(VideoError, match='frames 0 to 59'):
            read_frames(index, numbers)


@pytest.mark.parametrize('at', [700, 1500])
def test_damaged_frame_is_an_error_not_a_substitute(at, mp4, tmp_path):
    content = bytearray(mp4.read_bytes())
    begin = content.find(b'mdat') + 4 + at
    content[begin : begin + 200] = bytes(200)
    path = tmp_path / 'damaged.mp4'
    path.write_bytes(bytes(content))
    index = index_video(path)
    with pytest.raises(VideoError, match=r'damaged\.mp4: .*(cannot be decoded|damaged at)'):
        read_frames(index, range(FRAMES))


def test_file_that_is_no_video_is_refused(tmp_path):
    with pytest.raises(VideoError, match='there is no such file'):
        index_video(tmp_path / 'none.mp4')
    (tmp_path / 'text.mp4').write_text('no video')
    with pytest.raises(VideoError, match='FFmpeg cannot read it'):
        index_video(tmp_path / 'text.mp4')


def test_span_may_end_one_frame_after_the_video(mp4):
    # Annotations round their times.
    index = index_video(mp4)
    assert span_frames(index, Span(start=2.3, end=2.43, unit='seconds')).tolist() == [58, 59]


@pytest.fixture(scope='module')
def cut(tmp_path_factory):
    """Return a video whose header says 2.4 s and whose data ends before."""
    folder = tmp_path_factory.mktemp('cut')
    whole = write(folder / 'whole.mkv', 'libx264', g='12', bf='0').read_bytes()
    path = folder / 'cut.mkv'
    path.write_bytes(whole[: len(whole) // 2])
    return path


def test_span_beyond_a_cut_is_refused_with_the_reason(cut):
    index = index_video(cut)
    with pytest.raises(VideoError, match=r'ends after the video; .* header says 2\.4\d+ s'):
        span_frames(index, Span(start=0.2, end=2.2, unit='seconds'))
    with pytest.raises(VideoError, match='the file is cut short'):
        span_frames(index, Span(start=0, end=60, unit='frames'))


def test_whole_video_is_refused_if_its_end_is_cut_off(cut):
    index = index_video(cut)
    with pytest.raises(VideoError, match=r'cut\.mkv: its end is missing: the file is cut short'):
        span_frames(index, None)
    # The part before the cut is sound.
    numbers = span_frames(index, Span(start=0.2, end=0.4, unit='seconds'))
    assert read_frames(index, numbers).shape == (5, 48, 64, 3)


def test_sound_after_the_last_picture_is_no_cut(tmp_path):
    path = tmp_path / 'sound.mkv'
    with av.open(str(path), 'w') as container:
        video = container.add_stream('libx264', rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, 'yuv420p'
        audio = container.add_stream('pcm_s16le', rate=8000)
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(image(number), format='rgb24')
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.int16), layout='mono')
        sound.sample_rate, sound.pts, sound.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(audio.encode(sound))
    assert span_frames(index_video(path), None).tolist() == list(range(10))


# Offset of the second recording against the first: the same stamps, and overlapping ones.
@pytest.mark.parametrize('offset', [0, 7, 40])
def test_index_ends_where_time_stamps_begin_anew(offset, tmp_path):
    parts = []
    for name, begin in (('a.ts', 100), ('b.ts', 100 + offset)):
        with av.open(str(tmp_path / name), 'w') as container:
            stream = container.add_stream('libx264', rate=50, options={'bf': '2'})
            stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
            stream.codec_context.time_base = Fraction(1, 50)
            for number in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(image(number), format='rgb24')
                frame.pts, frame.time_base = begin + number, Fraction(1, 50)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        parts.append((tmp_path / name).read_bytes())
    path = tmp_path / 'joined.ts'
    path.write_bytes(b''.join(parts))
    index = index_video(path)
    assert len(index) == FRAMES
    assert (np.diff(index.stamps_ns) > 0).all()
    for span in (None, Span(start=1.0, end=2.0, unit='seconds')):
        with pytest.raises(VideoError, match='time stamps begin anew after'):
            span_frames(index, span)
    # What comes before is read as from the first recording alone.
    numbers = span_frames(index, Span(start=0.2, end=0.4, unit='seconds'))
    expected = read_frames(index_video(tmp_path / 'a.ts'), numbers)
    assert np.array_equal(read_frames(index, numbers), expected)


def test_two_exchanged_time_stamps_are_put_in_order(tmp_path):
    path = tmp_path / 'exchanged.mkv'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mjpeg', rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuvj420p'
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(image(number), format='rgb24')
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in stream.encode(frame):
                packet.pts = {5: 6, 6: 5}.get(number, number)
                packet.dts = number - 2
                container.mux(packet)
    index = index_video(path)
    assert len(index) == 12
    images = read_frames(index, range(12))
    assert abs(int(images[5, -1, -1, 0]) - 4 * 6) < 4
    assert abs(int(images[6, -1, -1, 0]) - 4 * 5) < 4
