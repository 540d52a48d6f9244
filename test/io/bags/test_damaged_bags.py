# SPDX-License-Identifier: Apache-2.0
"""Damaged and unsupported bags: an error names the bag and the fault."""

import shutil
import sqlite3
import struct

import numpy as np
import pytest
from fixtures.bag_files import EVENTS, FRAMES, RAW, bag_error, metadata_of, put_metadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from step_ros.datasets.frames import read_frames
from step_ros.io.bags.reader import BagReader, index_bag
from step_ros.io.video import VideoError


def test_path_that_is_no_bag_is_refused(tmp_path):
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    (tmp_path / 'text.mcap').write_text('no bag')
    (tmp_path / 'text.db3').write_text('no bag')
    (tmp_path / 'clip.mp4').write_text('no bag')
    (tmp_path / 'empty.mcap').touch()
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'killed').mkdir()
    (tmp_path / 'killed' / 'killed_0.mcap').touch()
    for name, words in (
        ('none', 'there is no such bag'),
        ('old.bag', 'a ROS 1 bag; convert it: rosbags-convert'),
        ('text.mcap', 'text.mcap is damaged or was cut short'),
        ('text.db3', 'text.db3 is damaged or was cut short'),
        ('clip.mp4', 'expected a folder with metadata.yaml, or a .mcap or .db3 file'),
        ('empty.mcap', 'empty.mcap is damaged or was cut short'),
        ('folder', 'metadata.yaml is missing'),
        ('killed', 'the folder holds killed_0.mcap: run `ros2 bag reindex'),
    ):
        error = bag_error(BagReader, tmp_path / name)
        assert error.startswith(f'{tmp_path / name}: ')
        assert words in error


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'version': 10}, 'version 10 is not supported; expected at most 9'),
        ({'version': 'nine'}, 'rosbag2_bagfile_information.version'),
        (
            {'storage_identifier': 'rocksdb'},
            "storage_identifier 'rocksdb' is not supported; expected mcap or sqlite3",
        ),
        ({'relative_file_paths': ['gone.mcap']}, 'names gone.mcap, which does not exist'),
        ({'relative_file_paths': None}, 'rosbag2_bagfile_information.relative_file_paths'),
        (
            {'compression_mode': 'FILE', 'compression_format': 'lz4'},
            "compression_format 'lz4' is not supported",
        ),
        ({'compression_mode': 'twice'}, "compression_mode 'twice' is not supported"),
    ],
)
def test_unsupported_metadata_is_refused(change, words, plain, tmp_path):
    path = shutil.copytree(plain / 'mcap', tmp_path / 'bag')
    put_metadata(path, {**metadata_of(path), **change})
    assert f'metadata.yaml{"" if "names" in words else ":"} {words}' in bag_error(BagReader, path)


def test_unreadable_metadata_is_refused(plain, tmp_path):
    path = shutil.copytree(plain / 'mcap', tmp_path / 'bag')
    for text in ('', '- 1', 'a: [', '\0'):
        (path / 'metadata.yaml').write_text(text)
        assert 'metadata.yaml' in bag_error(BagReader, path)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('kept', [0.2, 0.6, 0.9])
def test_file_that_was_cut_short_is_refused(storage, kept, plain, tmp_path):
    path = shutil.copytree(plain / storage, tmp_path / 'bag')
    [name] = metadata_of(path)['relative_file_paths']
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: int(kept * len(content))])
    error = bag_error(index_bag, path, RAW)
    assert f'{path}: {name} is damaged or was cut short' in error


def test_missing_messages_are_an_error_after_the_last(plain, tmp_path):
    path = shutil.copytree(plain / 'sqlite3', tmp_path / 'bag')
    database = sqlite3.connect(path / 'sqlite3.db3')
    database.execute('DELETE FROM messages WHERE id > 20')
    database.commit()
    database.close()
    words = f'{RAW}: found 10 messages; expected 12: the bag is cut short'
    assert words in bag_error(index_bag, path, RAW)
    # The frames before the gap are still read.
    frames = BagReader(path).frames([RAW])
    assert len([next(frames) for _ in range(10)]) == 10
    assert words in bag_error(next, frames)


def test_unmerged_messages_of_a_killed_recorder_are_an_error(plain, tmp_path):
    path = shutil.copytree(plain / 'sqlite3', tmp_path / 'bag')
    (path / 'sqlite3.db3-wal').write_bytes(b'pages')
    assert 'wal_checkpoint' in bag_error(index_bag, path, RAW)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_gives_all_frames_or_an_error(storage, data, plain, tmp_path):
    path = tmp_path / 'bag'
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(plain / storage, path)
    [name] = metadata_of(path)['relative_file_paths']
    content = bytearray((path / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at : at + 8] = data.draw(st.binary(min_size=1, max_size=8))
    (path / name).write_bytes(bytes(content))
    try:
        index = index_bag(path, RAW)
        images = read_frames(index, range(len(index)))
        list(BagReader(path).events([EVENTS]))
    except VideoError:
        return
    assert images.shape[0] == len(index) >= FRAMES


def test_empty_metadata_is_named_with_the_mend(plain, tmp_path):
    path = shutil.copytree(plain / 'mcap', tmp_path / 'bag')
    for text in ('', '\n \n', '\0' * 100):
        (path / 'metadata.yaml').write_text(text)
        error = bag_error(BagReader, path)
        assert 'metadata.yaml is empty' in error
        assert f'`ros2 bag reindex {path}`' in error


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_git_lfs_pointer_is_named_with_the_mend(storage, plain, tmp_path):
    path = shutil.copytree(plain / storage, tmp_path / 'bag')
    [name] = metadata_of(path)['relative_file_paths']
    for file in (name, 'metadata.yaml'):
        (path / file).write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
        error = bag_error(index_bag, path, RAW)
        assert f'{file} is a Git LFS pointer, not the file itself: run `git lfs pull`' in error
        assert 'damaged' not in error


def test_type_names_of_ros_1_are_named_with_the_mend(plain, tmp_path):
    path = shutil.copytree(plain / 'mcap', tmp_path / 'bag')
    information = metadata_of(path)
    for entry in information['topics_with_message_count']:
        about = entry['topic_metadata']
        about['type'] = about['type'].replace('/msg/', '/')
    put_metadata(path, information)
    bag = BagReader(path)
    assert 'sensor_msgs/Image lacks /msg/, as types of ROS 1 do' in bag.describe_topics()
    assert 'so that the type is sensor_msgs/msg/Image' in bag_error(index_bag, path, RAW)


@pytest.mark.parametrize('statistics', [True, False])
def test_mcap_chunks_without_message_index_are_read(statistics, plain, tmp_path):
    [source] = (plain / 'mcap').glob('*.mcap')
    path = tmp_path / 'bare.mcap'
    path.write_bytes(without_message_index(source.read_bytes(), statistics=statistics))
    found, stored = BagReader(path).topics.values(), BagReader(source).topics.values()
    assert {topic[:3] for topic in found} == {topic[:3] for topic in stored}
    index, expected = index_bag(path, RAW), index_bag(source, RAW)
    assert index.stamps_ns.tolist() == expected.stamps_ns.tolist()
    numbers = [0, 5, FRAMES - 1]
    assert np.array_equal(read_frames(index, numbers), read_frames(expected, numbers))
    assert len(list(BagReader(path).events([EVENTS]))) == 2


def without_message_index(content, *, statistics):
    """Return an mcap file whose chunk indexes name no message index."""
    magic, kept, summary, at = content[:8], [], [], 8
    start = struct.unpack_from('<Q', content, len(content) - 28)[0]
    while content[at] != 0x02:
        size = struct.unpack_from('<Q', content, at + 1)[0]
        code, record = content[at], content[at + 9 : at + 9 + size]
        if code == 0x08:
            indexed = struct.unpack_from('<I', record, 32)[0]
            # No offsets of message indexes, which have no bytes.
            record = record[:32] + struct.pack('<IQ', 0, 0) + record[36 + indexed + 8 :]
        if code == 0x07:
            # The record stays as one of an unknown kind, so that all offsets stay valid.
            code = 0x90
        if code == 0x0B and not statistics:
            code = 0x90
        if code != 0x0E:
            entry = bytes([code]) + struct.pack('<Q', len(record)) + record
            (kept if at < start else summary).append(entry)
        at += 9 + size
    body = magic + b''.join(kept)
    footer = b'\x02' + struct.pack('<QQQI', 20, len(body), 0, 0)
    return body + b''.join(summary) + footer + magic
