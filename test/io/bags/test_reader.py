# SPDX-License-Identifier: Apache-2.0
"""Read topics, frames and events of bags of every kind."""

import numpy as np
import pytest
from fixtures.bag_files import EVENTS, FRAMES, PNG, RAW, bag_error
from rosbags.rosbag2 import StoragePlugin, Writer

from step_ros.datasets.frames import read_frames
from step_ros.images.encodings import PUBLISHED_ENCODINGS
from step_ros.images.messages import pack, raw_to_rgb
from step_ros.io.bags.reader import BagReader, index_bag
from step_ros.io.bags.writer import BagWriter


def test_topics_are_listed_by_type_with_their_counts(bag):
    reader = BagReader(bag)
    assert reader.image_topics == (RAW, PNG)
    assert reader.event_topics == (EVENTS,)
    assert [reader.topics[topic].messages for topic in (RAW, PNG, EVENTS)] == [FRAMES, FRAMES, 2]


def test_frames_of_cameras_come_in_order_of_recording(bag, bag_image):
    frames = list(BagReader(bag).frames())
    assert [frame.camera for frame in frames[:4]] == [RAW, PNG, RAW, PNG]
    assert len(frames) == 2 * FRAMES
    for place, frame in enumerate(frames):
        assert np.array_equal(frame.load(), bag_image(place // 2))
        assert frame.load().flags.writeable
        assert frame.frame_id == 'optical'
        assert frame.received_ns - frame.stamp_ns == 7_000_000 - 1000 * (place % 2)


def test_events_come_in_order_of_recording(bag):
    kinds = [(event.type, event.task, event.label) for event in BagReader(bag).events([EVENTS])]
    assert kinds == [(1, 'action', 'open'), (2, 'action', 'open')]
    first, last = BagReader(bag).events()
    assert last.stamp_ns - first.stamp_ns == 200_000_000
    assert last.start_ns == first.stamp_ns


@pytest.mark.parametrize('encoding', [*PUBLISHED_ENCODINGS, 'png', 'jpeg'])
def test_every_encoding_of_the_node_is_read(encoding, tmp_path):
    y, x = np.mgrid[0:32, 0:48]
    image = np.stack([100 + 2 * x, 120 + y, 200 - x - y], axis=-1).astype(np.uint8)
    with BagWriter(tmp_path / 'bag') as writer:
        writer.image('/image', image, 1, encoding=encoding)
    [found] = read_frames(index_bag(tmp_path / 'bag', '/image'), [0])
    if encoding in PUBLISHED_ENCODINGS:
        assert np.array_equal(found, raw_to_rgb(pack(image, encoding)))
    else:
        assert np.abs(found.astype(int) - image).max() <= (0 if encoding == 'png' else 12)


def test_error_names_the_bag_and_its_topics(plain):
    path = plain / 'mcap'
    error = bag_error(index_bag, path, '/gone')
    assert f'{path}: topic' in error
    assert f"'/gone': there is no such topic; topics with images: {RAW}, {PNG}" in error
    assert 'its type is step_ros/msg/ActionEvent; topics with images: /c' in bag_error(
        index_bag, path, EVENTS
    )
    assert f'topics with action events: {EVENTS}' in bag_error(BagReader(path).events, [RAW])


def test_stored_definition_without_a_field_is_refused(tmp_path):
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(
            '/events', 'step_ros/msg/ActionEvent', msgdef='string word\n', rihs01='RIHS01_0'
        )
        writer.write(connection, 5, b'\0\1\0\0\2\0\0\0a\0')
    error = bag_error(list, BagReader(tmp_path / 'bag').events())
    assert "the stored definition of step_ros/msg/ActionEvent has no field 'header'" in error
