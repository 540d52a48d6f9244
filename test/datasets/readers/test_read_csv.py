# SPDX-License-Identifier: Apache-2.0
"""The user's own videos, listed in a CSV file."""

import random

import pytest

from step_ros.datasets.clip import Span
from step_ros.datasets.registry import read_dataset
from step_ros.io.errors import DatasetError

HEADER = 'video,start,end,split,action'


@pytest.fixture
def own(tmp_path, put_video):
    for name in ('a.mp4', 'more/b.mp4'):
        put_video(tmp_path / name)
    return tmp_path


def read(folder, put_text, *lines, **options):
    put_text(folder / 'annotations.csv', *lines)
    return read_dataset('csv', folder, **options)


def test_rows_become_clips_with_or_without_spans(own, put_text):
    dataset = read(
        own,
        put_text,
        HEADER,
        'a.mp4,0,0.15,train,open',
        'a.mp4,0.15,0.3,val,close',
        'more/b.mp4,,,test,open',
    )
    assert dataset.problems == ()
    assert [(clip.clip_id, clip.split, clip.span) for clip in dataset.records] == [
        ('a.mp4:0.0-0.15', 'train', Span(start=0, end=0.15, unit='seconds')),
        ('a.mp4:0.15-0.3', 'val', Span(start=0.15, end=0.3, unit='seconds')),
        ('more/b.mp4', 'test', None),
    ]
    assert dataset.records[2].video == own / 'more' / 'b.mp4'
    assert dataset.config.task('action').labels == ('close', 'open')


def test_further_columns_are_views_subjects_and_tasks(own, put_text):
    dataset = read(
        own,
        put_text,
        'subject,verb,video,start,end,split,view,object',
        'ann,turn left,a.mp4,,,train,front,cup',
        'bob,open,more/b.mp4,,,train,top,box',
    )
    first, second = dataset.records
    assert (first.view, first.subject) == ('front', 'ann')
    assert second.labels == {'verb': 'open', 'object': 'box'}
    assert [view.name for view in dataset.config.views] == ['front', 'top']
    # The file does not say which label mirrors it.
    assert dataset.config.task('verb').flipped('turn left') is None


def test_order_of_the_rows_does_not_matter(own, put_text):
    rows = [f'a.mp4,{index / 10},{index / 10 + 0.05},train,{index % 3}' for index in range(20)]
    records = read(own, put_text, HEADER, *rows).records
    assert [clip.clip_id for clip in records] == sorted(clip.clip_id for clip in records)
    random.Random(3).shuffle(rows)
    assert read(own, put_text, HEADER, *rows).records == records


def test_dataset_file_gives_labels_and_pairs(own, put_text):
    config = put_text(
        own / 'mine.yaml',
        'name: mine',
        'title: Mine',
        'tasks:',
        '  - name: action',
        '    classes: 3',
        '    labels: [close, open, wait]',
        '    pairs: [[open, close]]',
        '    aliases: {opne: open}',
        'views: [{name: front, meaning: front}]',
        'splits: [{name: file, unit: files}]',
        'evaluation: {sampling: interval, frames: 8, interval: 1, clips: 1}',
    )
    rows = ('a.mp4,,,train,opne', 'more/b.mp4,,,test,shut')
    dataset = read(own, put_text, HEADER, *rows, config=config)
    assert [(clip.labels['action'], clip.view) for clip in dataset.records] == [('open', 'front')]
    assert dataset.config.task('action').counterparts['close'] == 'open'
    assert [(problem.kind, problem.value) for problem in dataset.problems] == [
        ('unknown label', 'shut')
    ]
    with pytest.raises(DatasetError, match=r"column 'action' of .*mine\.yaml is missing"):
        read(own, put_text, HEADER.replace('action', 'verb'), *rows, config=config)


@pytest.mark.parametrize(
    ('row', 'kind', 'field'),
    [
        ('a.mp4,0.3,0.1,train,open', 'bad span', 'start, end'),
        ('a.mp4,0.1,0.1,train,open', 'bad span', 'start, end'),
        ('a.mp4,-1,0.1,train,open', 'bad span', 'start, end'),
        ('a.mp4,0.1,,train,open', 'bad span', 'end'),
        ('a.mp4,,0.1,train,open', 'bad span', 'start'),
        ('a.mp4,nan,0.1,train,open', 'bad span', 'start'),
        ('a.mp4,0,inf,train,open', 'bad span', 'end'),
        ('a.mp4,0,1 s,train,open', 'bad span', 'end'),
        ('gone.mp4,,,train,open', 'missing video', 'video'),
        ('more,,,train,open', 'missing video', 'video'),
        (',,,train,open', 'bad value', 'video'),
        ('a.mp4,,,training,open', 'bad value', 'split'),
        ('a.mp4,,,train,', 'unknown label', 'action'),
        ('a.mp4,,,train', 'bad value', 'row'),
        ('a.mp4,,,train,open,close', 'bad value', 'row'),
        ('more/b.mp4,,,train,close', 'duplicate', 'clip'),
    ],
)
def test_damaged_row_is_a_problem_and_others_are_read(own, put_text, row, kind, field):
    good = ('a.mp4,,,train,open', 'more/b.mp4,,,test,close')
    dataset = read(own, put_text, HEADER, *good, '', row)
    assert [clip.clip_id for clip in dataset.records] == ['a.mp4', 'more/b.mp4']
    [problem] = dataset.problems
    assert (problem.kind, problem.field, problem.row) == (kind, field, 5)
    assert problem.file == own / 'annotations.csv'


def test_row_that_is_no_utf8_is_a_problem(own):
    rows = f'{HEADER}\na.mp4,,,train,open\nmore/b.mp4,,,train,close\na.mp4,0,1,train,cl'.encode()
    (own / 'annotations.csv').write_bytes(b'\xef\xbb\xbf' + rows + b'\xffse\n')
    dataset = read_dataset('csv', own)
    assert len(dataset.records) == 2
    [problem] = dataset.problems
    assert problem.value == 'a.mp4,0,1,train,clÿse'
    assert 'UTF-8 text; these bytes look like Windows-1252' in problem.expected


@pytest.mark.parametrize(
    ('lines', 'words'),
    [
        (['video,start,end,action', 'a.mp4,,,open'], ["column 'split' is missing", 'found video']),
        (['video,start,end,split', 'a.mp4,,,train'], ['a named column for each task']),
        (['video,start,end,split,a,a', 'a.mp4,,,train,x,y'], ["['a']", 'twice']),
        ([HEADER], ['no rows']),
        ([''], ["column 'video' is missing"]),
        ([HEADER, 'a.mp4,,,train,open'], ["column 'action' holds ['open']", 'two labels']),
    ],
)
def test_unusable_file_is_an_error(own, put_text, lines, words):
    with pytest.raises(DatasetError) as error:
        read(own, put_text, *lines)
    for word in ['annotations.csv', *words]:
        assert word in str(error.value)
