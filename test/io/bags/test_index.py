# SPDX-License-Identifier: Apache-2.0
"""Read single frames of a bag by their numbers."""

import os
import pickle
import shutil

import numpy as np
import pytest
from fixtures.bag_files import FRAMES, PNG, RAW, bag_error, metadata_of, put_metadata
from hypothesis import given
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin, Writer

from step_ros.datasets.clip import ClipRecord, Span
from step_ros.datasets.frames import index_clip, read_frames, span_frames
from step_ros.images.encodings import ImageError
from step_ros.io.bags.reader import START, BagEvent, BagReader, index_bag
from step_ros.io.bags.storage import StorageFile, our_types
from step_ros.io.bags.writer import BagWriter
from step_ros.io.video import VideoError


@pytest.mark.parametrize('topic', [RAW, PNG])
@pytest.mark.parametrize('numbers', [[0], [11], [4, 5, 6], [9, 2, 2, 7], list(range(FRAMES))])
def test_frames_are_read_by_their_numbers(bag, topic, numbers, bag_image):
    index = index_bag(bag, topic)
    assert len(index) == FRAMES
    # Stamps are those of the headers: each frame was recorded 7 ms after its stamp.
    assert index.stamps_ns.tolist() == [50_000_000 * number for number in range(FRAMES)]
    assert index.start_ns == 1_700_000_000 * 10**9 + (topic == PNG) * 1000
    images = read_frames(index, numbers)
    for number, image in zip(numbers, images, strict=True):
        assert np.array_equal(image, bag_image(number))


def test_index_is_pickled_and_keeps_no_file_open(bag, bag_image):
    before = os.listdir('/proc/self/fd')
    index = pickle.loads(pickle.dumps(index_bag(bag, RAW)))
    assert np.array_equal(read_frames(index, [3])[0], bag_image(3))
    next(BagReader(bag).frames()).load()
    assert len(os.listdir('/proc/self/fd')) == len(before)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_only_the_requested_messages_are_deserialised(storage, plain, monkeypatch):
    index = index_bag(plain / storage, RAW)
    topics, real = [], StorageFile.deserialise
    monkeypatch.setattr(
        StorageFile, 'deserialise', lambda self, m: topics.append(m.topic) or real(self, m)
    )
    read_frames(index, [10, 2, 3])
    assert topics == [RAW] * 3


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_messages_recorded_at_the_same_time_are_distinct(storage, tmp_path, bag_image):
    with BagWriter(tmp_path / 'bag', storage) as writer:
        for number in range(6):
            writer.image('/raw', bag_image(number), number + 1, log_ns=number // 3)
    index = index_bag(tmp_path / 'bag', '/raw')
    for number in range(6):
        assert np.array_equal(read_frames(index, [number])[0], bag_image(number))


def test_clip_of_a_bag_is_read_like_one_of_a_video(plain, tmp_path, put_video, bag_image):
    put_video(tmp_path / 'a.mp4')
    common = {'split': 'train', 'labels': {'action': 'open'}}
    clip = ClipRecord(clip_id='a', video=plain / 'mcap', topic=PNG, **common)
    other = ClipRecord(clip_id='b', video=plain / 'mcap', topic=RAW, **common)
    video = ClipRecord(clip_id='c', video=tmp_path / 'a.mp4', **common)
    assert [len(index_clip(record)) for record in (clip, other, video)] == [12, 12, 10]
    assert index_clip(clip).topic == PNG
    assert index_clip(other).topic == RAW
    # Clips of one camera share its index.
    assert index_clip(clip) is index_clip(
        ClipRecord(clip_id='d', video=clip.video, topic=PNG, **common)
    )
    numbers = span_frames(index_clip(clip), Span(start=0.1, end=0.25, unit='seconds'))
    assert numbers.tolist() == [2, 3, 4]
    assert np.array_equal(read_frames(index_clip(clip), numbers)[2], bag_image(4))


@given(first_ns=st.integers(0, 2**31 * 10**9), start_ns=st.integers(0, 10**15))
def test_span_in_seconds_starts_at_the_frame_of_its_stamp(first_ns, start_ns):
    class Index:
        path, last_frame_ns, ends_early = None, 0, ''
        stamps_ns = np.array([start_ns - 1, start_ns, start_ns + 9, start_ns + 10])

        def __len__(self):
            return 4

    start = (first_ns + start_ns - first_ns) / 1e9
    span = Span(start=start, end=(start_ns + 10) / 1e9, unit='seconds')
    assert span_frames(Index(), span).tolist() == [1, 2]


@pytest.mark.parametrize(
    ('stamps', 'words'),
    [
        (
            (1, 3, 2, 1),
            'frame 2 of 4 is stamped 2.000000 s, a frame before it 3.000000 s (2 such',
        ),
        ((0, 0), '/raw: none of 2 images has a stamp; have the camera driver set header.stamp'),
        ((), "topic '/raw' has no messages"),
    ],
)
def test_stamps_that_jump_back_or_lack_are_refused(stamps, words, tmp_path, bag_image):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.event('/events', BagEvent(type=START, stamp_ns=1, start_ns=1, task='t', label='l'))
        for number, stamp in enumerate(stamps):
            writer.image('/raw', bag_image(number), stamp * 10**9, log_ns=number)
    if not stamps:
        information = metadata_of(tmp_path / 'bag')
        [topic] = information['topics_with_message_count']
        empty = {'topic_metadata': {**topic['topic_metadata'], 'name': '/raw'}, 'message_count': 0}
        empty['topic_metadata']['type'] = 'sensor_msgs/msg/Image'
        information['topics_with_message_count'].append(empty)
        put_metadata(tmp_path / 'bag', information)
    assert words in bag_error(index_bag, tmp_path / 'bag', '/raw')
    # Reading in order of recording accepts any stamps.
    assert [f.stamp_ns // 10**9 for f in BagReader(tmp_path / 'bag').frames(['/raw'])] == [*stamps]


def test_undecodable_frame_or_other_size_is_an_error(tmp_path, bag_image):
    types = our_types()
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        kind = 'sensor_msgs/msg/CompressedImage'
        connection = writer.add_connection('/jpeg', kind, typestore=types)
        for number in range(2):
            stamp = types.types['builtin_interfaces/msg/Time'](sec=number + 1, nanosec=0)
            header = types.types['std_msgs/msg/Header'](stamp=stamp, frame_id='')
            data = np.frombuffer(b'no jpeg', np.uint8)
            message = types.types[kind](header=header, format='jpeg', data=data)
            writer.write(connection, number, types.serialize_cdr(message, kind))
    index = index_bag(tmp_path / 'bag', '/jpeg')
    error = bag_error(read_frames, index, [1])
    assert '/jpeg: frame 1 of 2 cannot be converted: 7 bytes of format' in error
    with pytest.raises(ImageError, match='not a complete image'):
        BagReader(tmp_path / 'bag').first_frame('/jpeg').load()
    with BagWriter(tmp_path / 'sizes') as writer:
        writer.image('/raw', bag_image(0), 1)
        writer.image('/raw', bag_image(1)[:8], 2)
    index = index_bag(tmp_path / 'sizes', '/raw')
    with pytest.raises(VideoError, match='frame 1 is 24 x 8, frame 0 24 x 16; expected one size'):
        read_frames(index, [0, 1])
    for numbers in ([2], [-1], []):
        with pytest.raises(VideoError, match='frames 0 to 1'):
            read_frames(index, numbers)


def test_bag_that_changed_after_indexing_is_an_error(tmp_path, put_bag, bag_image):
    put_bag(tmp_path / 'bag', RAW)
    index = index_bag(tmp_path / 'bag', RAW)
    shutil.rmtree(tmp_path / 'bag')
    with BagWriter(tmp_path / 'bag') as writer:
        writer.image(RAW, bag_image(0), 3, log_ns=int(index.log_ns_f[0]))
    assert 'frame 0 of 12 has another stamp than when it was indexed' in bag_error(
        read_frames, index, [0]
    )
    assert 'frame 5 of 12 no longer exists' in bag_error(read_frames, index, [5])
