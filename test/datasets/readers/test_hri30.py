# SPDX-License-Identifier: Apache-2.0
"""HRI-30 in miniature, with the published file names and columns."""

import pytest

from step_ros.datasets.registry import read_dataset
from step_ros.io.errors import DatasetError
from step_ros.io.video import VideoReader


@pytest.fixture
def hri30(tmp_path, put_video, put_text):
    rows = []
    for class_id, label in ((1, 'DeliverObject'), (18, 'NoCollaborativeWithDrilll')):
        for group in (1, 9, 10):
            name = f'CID{class_id:02d}_SID{group:02d}_VID01'
            put_video(tmp_path / 'train_set' / f'{name}.avi')
            rows.append(f'{name}.avi,{label},{class_id}')
    put_text(tmp_path / 'annotations' / 'train_set_labels.csv', *rows)
    put_video(tmp_path / 'test_set' / 'testvideo001.avi')
    return tmp_path


def test_training_labels_become_clips(hri30):
    dataset = read_dataset('hri30', hri30)
    assert [record.clip_id for record in dataset.records] == [
        f'CID{class_id}_SID{group}_VID01'
        for class_id in ('01', '18')
        for group in ('01', '09', 10)
    ]
    assert {record.split for record in dataset.records} == {'train'}
    last = dataset.records[-1]
    assert last.labels == {'action': 'NoCollaborativeWithDrill'}
    assert last.video == hri30 / 'train_set' / 'CID18_SID10_VID01.avi'
    assert (last.span, last.view, last.subject) == (None, '', 'group 10')
    assert dataset.left_out == {'test videos without labels': 1}
    assert dataset.problems == ()
    with VideoReader(last.video) as reader:
        assert len(list(reader)) == 10


def test_group_determines_the_part_of_the_split(hri30):
    by_group = {
        (split, record.subject): record.split
        for split in ('1', '2', '3')
        for record in read_dataset('hri30', hri30, split=split, validation_groups='9').records
    }
    assert by_group['1', 'group 10'] == by_group['2', 'group 10'] == 'train'
    assert by_group['3', 'group 10'] == 'test'
    assert by_group['1', 'group 9'] == 'val'


def test_test_labels_are_read_if_they_exist(hri30, put_text, kinds):
    put_text(hri30 / 'annotations' / 'test_set_labels.csv', 'testvideo001.avi,Walking,27')
    tests = [record for record in read_dataset('hri30', hri30).records if record.split == 'test']
    assert [(test.clip_id, test.labels['action']) for test in tests] == [
        ('testvideo001', 'Walking')
    ]
    # The test videos lost their groups, so no other split can place them.
    assert kinds(read_dataset('hri30', hri30, split='2')) == {'bad value': 1}


def test_names_of_the_paper_and_class_folders_are_read(tmp_path, put_video, put_text, kinds):
    put_video(tmp_path / 'train_set' / '27' / 'v_Walking_g12_c03.avi')
    put_text(
        tmp_path / 'annotations' / 'train_set_labels.csv',
        'v_Walking_g12_c03,Walking,27',
        'v_Walking_g12_c04,PickUpDrill,20',
    )
    dataset = read_dataset('hri30', tmp_path)
    assert [record.split for record in dataset.records] == ['test']
    assert kinds(dataset) == {'unknown label': 1}


def test_damaged_rows_are_problems(hri30, put_text):
    path = hri30 / 'annotations' / 'train_set_labels.csv'
    put_text(
        path,
        'CID01_SID01_VID01.avi,DeliverObject,1',
        'CID01_SID01_VID01.avi,DeliverObject,1',
        'CID01_SID02_VID01.avi,DeliverObject,1',
        'CID01_SID09_VID01.avi,Dancing,1',
        'CID01_SID09_VID01.avi,DeliverObject,2',
        'CID18_SID09_VID01.avi,DeliverObject,1',
        'CID01_SID15_VID01.avi,DeliverObject,1',
        'holiday.avi,DeliverObject,1',
        'CID01_SID10_VID01.avi,DeliverObject',
    )
    dataset = read_dataset('hri30', hri30)
    assert [record.clip_id for record in dataset.records] == ['CID01_SID01_VID01']
    found = [(problem.kind, problem.row, problem.field) for problem in dataset.problems]
    assert found == [
        ('duplicate', 2, 'clip'),
        ('missing video', 3, 'video'),
        ('unknown label', 4, 'class_name'),
        ('unknown label', 5, 'class_id'),
        ('unknown label', 6, 'video_id'),
        ('bad value', 7, 'video_id'),
        ('bad value', 8, 'video_id'),
        ('bad value', 9, 'row'),
    ]
    assert all(problem.file == path and problem.expected for problem in dataset.problems)
    assert str(dataset.problems[2]) == f"{path}:4: class_name 'Dancing': expected a class"


def test_wrong_validation_groups_are_refused(hri30):
    with pytest.raises(
        DatasetError, match=r"validation_groups='x': expected numbers, for example 1,2,3"
    ):
        read_dataset('hri30', hri30, validation_groups='x')
    with pytest.raises(DatasetError, match=r'group 11 does not train in split 1'):
        read_dataset('hri30', hri30, validation_groups='9,11')


def test_test_labels_named_by_option_must_exist(hri30):
    with pytest.raises(DatasetError, match=r'mine\.csv: there is no such file'):
        read_dataset('hri30', hri30, test_annotations='mine.csv')
