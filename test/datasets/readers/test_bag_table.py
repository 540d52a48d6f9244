# SPDX-License-Identifier: Apache-2.0
"""Bags as a dataset, labelled by a CSV file."""

import numpy as np
import pytest

from step_ros.datasets.frames import index_clip, read_frames, span_frames
from step_ros.datasets.registry import read_dataset
from step_ros.io.errors import DatasetError

FRONT, TOP = '/front/image_raw', '/top/image_raw'
HEADER = 'video,start,end,split,verb,object'


def test_csv_file_labels_bags(bags, put_text, bag_image):
    put_text(
        bags / 'labels.csv',
        f'{HEADER},subject',
        'train/kitchen,0.05,0.2,train,open,box,ann',
        'train/kitchen,0.25,0.5,val,close,,bob',
        'test/kitchen,,,test,close,jar,',
    )
    dataset = read_dataset('bag', bags, labels='labels.csv')
    assert dataset.problems == ()
    assert [(r.clip_id, r.split, r.subject) for r in dataset.records] == [
        ('test/kitchen/front/image_raw', 'test', ''),
        ('train/kitchen/front/image_raw:0.05-0.2', 'train', 'ann'),
        ('train/kitchen/front/image_raw:0.25-0.5', 'val', 'bob'),
    ]
    # The CSV file and the events give the same span and the same clip name.
    events = {record.clip_id: record for record in read_dataset('bag', bags).records}
    assert events[dataset.records[1].clip_id].span == dataset.records[1].span
    assert dataset.records[2].labels == {'verb': 'close'}
    assert dataset.records[0].span is None
    index = index_clip(dataset.records[1])
    numbers = span_frames(index, dataset.records[1].span)
    assert np.array_equal(read_frames(index, numbers)[0], bag_image(1))


def test_csv_file_names_cameras(tmp_path, put_bag, put_text, problems_of):
    put_bag(tmp_path / 'bag', FRONT, TOP)
    rows = [f'bag,0,0.2,train,open,box,{FRONT}', f'bag,0,0.2,test,close,jar,{TOP}']
    put_text(tmp_path / 'labels.csv', f'{HEADER},view', *rows)
    dataset = read_dataset('bag', tmp_path, labels='labels.csv')
    assert {record.topic for record in dataset.records} == {FRONT, TOP}
    dataset = read_dataset('bag', tmp_path, labels='labels.csv', topic=TOP)
    assert [record.view for record in dataset.records] == [TOP]
    assert dataset.left_out == {'clips of other cameras': 1}
    put_text(tmp_path / 'labels.csv', f'{HEADER},view', *rows, 'bag,0,0.3,train,open,box,')
    with pytest.raises(DatasetError, match="option topic=''"):
        read_dataset('bag', tmp_path, labels='labels.csv')
    dataset = read_dataset('bag', tmp_path, labels='labels.csv', topic='all')
    assert problems_of(dataset) == [('bad value', 'view', '')]
    assert f'{FRONT}, {TOP}' in dataset.problems[0].expected


@pytest.mark.parametrize(
    ('row', 'kind', 'field'),
    [
        ('train/kitchen,0.3,0.1,train,open,box', 'bad span', 'start, end'),
        ('train/kitchen,0.3,,train,open,box', 'bad span', 'end'),
        ('train/kitchen,0,0.1,training,open,box', 'bad value', 'split'),
        ('train/kitchen,0,0.1,train,,', 'unknown label', 'tasks'),
        ('train/kitchen,0,0.1,train,open', 'bad value', 'row'),
        (',0,0.1,train,open,box', 'bad value', 'video'),
        ('train/gone,0,0.1,train,open,box', 'missing video', 'video'),
        ('train/text.mcap,0,0.1,train,open,box', 'undecodable video', 'bag'),
        ('train,0,0.1,train,open,box', 'undecodable video', 'bag'),
        ('val/kitchen,,,val,open,box', 'duplicate', 'clip'),
    ],
)
def test_damaged_row_is_a_problem_and_others_are_read(bags, put_text, row, kind, field):
    (bags / 'train' / 'text.mcap').write_text('no bag')
    good = ['val/kitchen,,,val,close,jar', 'train/kitchen,,,train,open,box']
    put_text(bags / 'labels.csv', HEADER, *good, row)
    dataset = read_dataset('bag', bags, labels='labels.csv')
    assert len(dataset.records) == 2
    [problem] = dataset.problems
    assert (problem.kind, problem.field, problem.row) == (kind, field, 4)


def test_missing_bag_is_one_problem(bags, put_text):
    rows = [f'gone,0,0.{number},train,open,box' for number in range(1, 5)]
    put_text(bags / 'labels.csv', HEADER, 'val/kitchen,,,val,close,jar', *rows)
    dataset = read_dataset('bag', bags, labels='labels.csv')
    assert len(dataset.problems) == 1
    assert dataset.left_out == {'further clips of missing or damaged bags': 3}


def test_unusable_csv_file_is_an_error(bags, put_text):
    put_text(bags / 'labels.csv', HEADER, 'val/kitchen,,,val,close,jar')
    with pytest.raises(DatasetError, match=r"split='val': .*labels\.csv has a column for it"):
        read_dataset('bag', bags, labels='labels.csv', split='val')
    with pytest.raises(DatasetError, match=r"column 'verb' holds \['close'\]"):
        read_dataset('bag', bags, labels='labels.csv')
    with pytest.raises(DatasetError, match=r'other\.csv: there is no such file'):
        read_dataset('bag', bags, labels='other.csv')
