# SPDX-License-Identifier: Apache-2.0
"""Drive&Act in miniature, with the published file names and columns."""

from collections import Counter

import pytest

from step_ros.datasets.clip import Span
from step_ros.datasets.registry import read_dataset
from step_ros.io.errors import DatasetError

COLUMNS = 'participant_id,file_id,annotation_id,frame_start,frame_end,activity,chunk_id'


@pytest.fixture
def drive(tmp_path, put_video, put_text):
    for view, suffix in (('kinect_color', 'kinect_color'), ('inner_mirror', 'ids_1')):
        for number, part in ((1, 'train'), (9, 'val'), (5, 'test')):
            run = f'vp{number}/run1_2018-05-22-15-10-41.{suffix}'
            put_video(tmp_path / view / f'{run}.mp4')
            put_text(
                tmp_path / 'activities_3s' / view / f'midlevel.chunks_90.split_0.{part}.csv',
                COLUMNS,
                f'{number},{run},0,0,4,opening_bottle,0',
                f'{number},{run},0,4,9,opening_bottle,1',
                f'{number},{run},1,9,10,looking_or_moving_around (e.g. searching),0',
                f'{number},{run},2,9,10,looking_back_left_shoulder,0',
            )
    return tmp_path


def test_chunks_become_clips(drive):
    dataset = read_dataset('drive-and-act', drive)
    assert dataset.problems == ()
    assert Counter((record.split, record.subject) for record in dataset.records) == {
        ('train', 'vp1'): 3,
        ('val', 'vp9'): 3,
        ('test', 'vp5'): 3,
    }
    clip = dataset.records[0]
    run = 'vp1/run1_2018-05-22-15-10-41.kinect_color'
    assert clip.clip_id == f'kinect_color/{run}:0:0'
    assert clip.video == drive / 'kinect_color' / f'{run}.mp4'
    # The span does not include its end: the next chunk starts there.
    assert clip.span == Span(start=0, end=4, unit='frames')
    assert clip.labels == {'action': 'opening_bottle'}
    assert dataset.left_out == {'looking_back_left_shoulder: no class of the benchmark': 3}


def test_options_choose_view_and_split(drive):
    mirror = read_dataset('drive-and-act', drive, view='inner_mirror')
    assert {record.view for record in mirror.records} == {'inner_mirror'}
    assert mirror.records[0].video.name.endswith('.ids_1.mp4')
    with pytest.raises(DatasetError, match=r'split_2\.train\.csv: there is no such file'):
        read_dataset('drive-and-act', drive, split=2)


def test_damaged_rows_are_problems(drive, put_text, kinds):
    path = drive / 'activities_3s' / 'kinect_color' / 'midlevel.chunks_90.split_0.test.csv'
    run = 'vp5/run1_2018-05-22-15-10-41.kinect_color'
    put_text(
        path,
        COLUMNS,
        f'5,{run},0,4,4,eating,0',
        f'5,{run},0,soon,9,eating,1',
        f'5,{run},0,-1,9,eating,2',
        f'5,{run},0,0,9,dancing,3',
        f'6,{run},0,0,9,eating,4',
        '5,vp5/../../secret,0,0,9,eating,5',
        f'5,{run},0,0,9,eating',
        f'5,{run},0,0,9,eat\ufffding,7',
        f'5,{run},0,0,9,eating,8',
    )
    dataset = read_dataset('drive-and-act', drive)
    assert [record.clip_id for record in dataset.records if record.split == 'test'] == [
        f'kinect_color/{run}:0:8'
    ]
    assert kinds(dataset) == {'bad span': 3, 'unknown label': 1, 'bad value': 4}
    assert [problem.row for problem in dataset.problems] == list(range(2, 10))


def test_missing_column_is_named(drive, put_text):
    path = drive / 'activities_3s' / 'kinect_color' / 'midlevel.chunks_90.split_0.val.csv'
    put_text(path, COLUMNS.replace('frame_end', 'frame_stop'))
    with pytest.raises(DatasetError, match=r"split_0\.val\.csv: column 'frame_end' is missing"):
        read_dataset('drive-and-act', drive)
