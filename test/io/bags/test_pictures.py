# SPDX-License-Identifier: Apache-2.0
"""The image topics that a reader chooses where the user names none."""

import numpy as np
import pytest
from fixtures.bag_files import metadata_of, put_metadata
from rosbags.rosbag2 import StoragePlugin, Writer

from step_ros.datasets.check import check_dataset
from step_ros.datasets.registry import read_dataset
from step_ros.io.bags.pictures import choose_pictures
from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.storage import ACTION_HYPOTHESIS, COMPRESSED_IMAGE, IMAGE, our_types
from step_ros.io.errors import DatasetError

RAW, COPY = '/camera/image_raw', '/camera/image_raw/compressed'
LABELLED = [(0.05, 0.2, {'verb': 'open'}), (0.25, 0.5, {'verb': 'close'})]


def put_topics(path, **encodings):
    """Write a bag with one image of each encoding or format."""
    types = our_types()
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, encoding in encodings.items():
            kind = COMPRESSED_IMAGE if 'compressed' in topic else IMAGE
            stamp = types.types['builtin_interfaces/msg/Time'](sec=1, nanosec=0)
            header = types.types['std_msgs/msg/Header'](stamp=stamp, frame_id='')
            data = np.zeros(16, np.uint8)
            if kind == IMAGE:
                message = types.types[kind](
                    header=header,
                    height=2,
                    width=2,
                    encoding=encoding,
                    is_bigendian=0,
                    step=8,
                    data=data,
                )
            else:
                message = types.types[kind](header=header, format=encoding, data=data)
            connection = writer.add_connection(topic, kind, typestore=types)
            writer.write(connection, 1, types.serialize_cdr(message, kind))
    return path


def add_empty(path, *topics, kind=IMAGE):
    information = metadata_of(path)
    entries = information['topics_with_message_count']
    for topic in topics:
        about = {**entries[0]['topic_metadata'], 'name': topic, 'type': kind}
        entries.append({'topic_metadata': about, 'message_count': 0})
    put_metadata(path, information)


@pytest.mark.parametrize(
    ('topics', 'chosen', 'words'),
    [
        ({RAW: 'rgb8', '/depth': '16UC1'}, [RAW], 'depth images (encoding 16UC1)'),
        ({RAW: 'rgb8', '/depth': '32FC1'}, [RAW], 'depth images (encoding 32FC1)'),
        (
            {RAW: 'rgb8', '/depth/compressedDepth': '16UC1; compressedDepth png'},
            [RAW],
            'depth images (format',
        ),
        ({RAW: 'rgb8', '/depth/compressed': '16UC1; png compressed '}, [RAW], 'depth images'),
        ({RAW: 'rgb8', COPY: 'rgb8; jpeg compressed bgr8'}, [RAW], f'the same camera as {RAW}'),
        ({COPY: 'jpeg'}, [COPY], ''),
        ({RAW: 'rgb8', '/perception/overlay': 'rgb8'}, [RAW], 'a perception node draws it'),
        ({RAW: 'rgb8', '/r1/perception/overlay/left': 'rgb8'}, [RAW], 'a perception node draws'),
        ({RAW: 'rgb8', '/perception/overlay/compressed': 'jpeg'}, [RAW], 'a perception node draw'),
        ({RAW: 'rgb8', '/other/image_raw': 'rgb8'}, [RAW, '/other/image_raw'], ''),
        ({RAW: 'rgb8', '/overlay': 'rgb8'}, [RAW, '/overlay'], ''),
    ],
)
def test_topics_without_pictures_of_a_camera_are_left_out(topics, chosen, words, tmp_path):
    pictures = choose_pictures(BagReader(put_topics(tmp_path / 'bag', **topics)))
    assert pictures.topics == tuple(sorted(chosen))
    assert words in pictures.describe()
    assert bool(words) == bool(pictures.left_out)


def test_empty_topics_and_overlays_of_renamed_nodes_are_left_out(tmp_path):
    path = put_topics(tmp_path / 'bag', **{RAW: 'rgb8', '/watcher/overlay': 'rgb8', COPY: 'jpeg'})
    add_empty(path, '/other/image_raw')
    add_empty(path, '/watcher/hypotheses', kind=ACTION_HYPOTHESIS)
    pictures = choose_pictures(BagReader(path))
    assert pictures.topics == (RAW,)
    assert pictures.left_out == {
        COPY: f'the same camera as {RAW}',
        '/other/image_raw': 'it has no messages',
        '/watcher/overlay': 'a perception node draws it',
    }


def test_compressed_images_stand_in_for_an_empty_raw_topic(tmp_path):
    path = put_topics(tmp_path / 'bag', **{COPY: 'jpeg'})
    add_empty(path, RAW)
    assert choose_pictures(BagReader(path)).topics == (COPY,)


def test_dataset_takes_the_only_topic_with_pictures(tmp_path, put_bag):
    path = tmp_path / 'train' / 'bag'
    put_bag(path, RAW, COPY, labelled=LABELLED)
    add_empty(path, '/other/image_raw')
    dataset = read_dataset('bag', tmp_path)
    assert [record.topic for record in dataset.records] == [RAW, RAW]
    assert check_dataset(dataset, decode=True).clean
    assert dataset.left_out == {
        f'topic {COPY}, the same camera as {RAW}': 1,
        'topic /other/image_raw, it has no messages': 1,
    }


def test_all_topics_of_bags_that_differ_are_read(tmp_path, put_bag):
    put_bag(tmp_path / 'train' / 'both', RAW, COPY, labelled=LABELLED)
    put_bag(tmp_path / 'train' / 'copies', COPY, labelled=LABELLED)
    add_empty(tmp_path / 'train' / 'copies', RAW)
    dataset = read_dataset('bag', tmp_path, topic='all')
    assert [record.topic for record in dataset.records] == [RAW, RAW, COPY, COPY]
    assert check_dataset(dataset, decode=True).clean


def test_bag_of_depth_images_alone_is_refused_with_the_reason(tmp_path):
    (tmp_path / 'train').mkdir()
    put_topics(tmp_path / 'train' / 'bag', **{'/depth': '16UC1'})
    with pytest.raises(DatasetError, match=r'no topic with pictures; /depth: it holds depth'):
        read_dataset('bag', tmp_path)
