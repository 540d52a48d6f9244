# SPDX-License-Identifier: Apache-2.0
"""NTU RGB+D 120 in miniature, with the published file names."""

from collections import Counter

import pytest

from step_ros.datasets.registry import read_dataset
from step_ros.io.errors import DatasetError


@pytest.fixture
def ntu(tmp_path, put_video):
    for setup, subject in ((1, 1), (2, 1), (1, 3), (2, 3)):
        for camera in (1, 2):
            name = f'S{setup:03d}C{camera:03d}P{subject:03d}R001A120_rgb.avi'
            put_video(tmp_path / f'nturgbd_rgb_s{setup:03d}' / 'nturgb+d_rgb' / name)
    return tmp_path


@pytest.mark.parametrize(
    ('protocol', 'expected'),
    [
        ('cross-subject', {'S001P001': 'train', 'S002P003': 'test', 'S001P003': 'test'}),
        ('cross-setup', {'S001P001': 'test', 'S002P003': 'train', 'S001P003': 'test'}),
    ],
)
def test_protocol_determines_the_split(ntu, protocol, expected):
    dataset = read_dataset('ntu120', ntu, protocol=protocol)
    assert (len(dataset.records), dataset.problems) == (8, ())
    splits = {record.clip_id[:4] + record.subject: record.split for record in dataset.records}
    assert expected.items() <= splits.items()
    first = dataset.records[0]
    assert first.clip_id == 'S001C001P001R001A120'
    assert first.labels == {'action': 'finger-guessing game (playing rock-paper-scissors)'}
    assert Counter(record.view for record in dataset.records) == {'1': 4, '2': 4}


def test_option_chooses_validation_subjects(ntu):
    dataset = read_dataset('ntu120', ntu, validation='1')
    assert {record.subject for record in dataset.records if record.split == 'val'} == {'P001'}


def test_damaged_file_names_are_problems(ntu, put_video, kinds):
    for name in (
        'S001C001P001R001A121_rgb.avi',
        'S033C001P001R001A001_rgb.avi',
        'S001C004P001R001A001_rgb.avi',
        'S001C001P107R001A001_rgb.avi',
        'S001C001P001R001A001.avi',
    ):
        put_video(ntu / 'odd' / name)
    put_video(ntu / 'again' / 'S001C001P001R001A120_rgb.avi')
    dataset = read_dataset('ntu120', ntu)
    assert len(dataset.records) == 8
    assert kinds(dataset) == {'unknown label': 1, 'bad value': 4, 'duplicate': 1}


def test_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(DatasetError, match='SsssCcccPpppRrrrAaaa_rgb'):
        read_dataset('ntu120', tmp_path)
