# SPDX-License-Identifier: Apache-2.0
"""Damaged and unsupported bags: an error names the bag and the fault."""

import shutil
import sqlite3

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
