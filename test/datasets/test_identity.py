# SPDX-License-Identifier: Apache-2.0
"""Sources are known by their content, not by their names."""

import os

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.identity import clips_digest, source_digest


def clip(video, name='a', topic=''):
    return ClipRecord(clip_id=name, video=video, topic=topic, split='train', labels={})


def test_a_replaced_file_gets_another_digest(tmp_path):
    video = tmp_path / 'a.mp4'
    video.write_bytes(b'one')
    before, status = source_digest(video), video.stat()
    video.write_bytes(b'two')
    # As copied with its time kept: path, size and time of modification are the old ones.
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert source_digest(video) != before
    video.write_bytes(b'one')
    assert source_digest(video) == before


def test_exchanged_videos_are_other_clips(tmp_path):
    for folder, contents in (('a', 'xy'), ('b', 'yx'), ('c', 'xy')):
        (tmp_path / folder).mkdir()
        for name, content in zip('12', contents, strict=True):
            (tmp_path / folder / name).write_text(content)
    a, b, c = (
        clips_digest([clip(tmp_path / folder / name, name) for name in names])
        for folder, names in (('a', '12'), ('b', '12'), ('c', '21'))
    )
    assert a != b
    # Neither the folder nor the order of the clips counts.
    assert a == c


def test_a_missing_video_gets_another_digest_once_it_is_there(tmp_path):
    video = tmp_path / 'a.mp4'
    before = source_digest(video)
    video.write_bytes(b'one')
    assert source_digest(video) != before


def test_a_storage_file_replaced_in_a_bag_changes_its_digest(tmp_path):
    bag = tmp_path / 'bag'
    bag.mkdir()
    (bag / 'metadata.yaml').write_text('version: 9')
    (bag / 'bag_0.mcap').write_bytes(b'one')
    (bag / 'notes.txt').write_text('of no account')
    before = source_digest(bag)
    (bag / 'notes.txt').unlink()
    assert source_digest(bag) == before
    (bag / 'bag_0.mcap').write_bytes(b'two')
    assert source_digest(bag) != before
