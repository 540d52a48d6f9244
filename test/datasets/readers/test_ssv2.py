# SPDX-License-Identifier: Apache-2.0
"""Something-Something v2 in miniature, with the published file names and keys."""

import json

import pytest

from step_ros.datasets.registry import read_dataset
from step_ros.io.errors import DatasetError
from step_ros.io.video import VideoReader


def ssv2_entry(number, template):
    return {'id': str(number), 'label': 'x', 'template': template, 'placeholders': ['x']}


@pytest.fixture(params=['', 'something-something-v2-'])
def ssv2(request, tmp_path, put_video, put_text):
    folder = tmp_path / 'labels'
    parts = {
        'train': [ssv2_entry(10, 'Pushing [something] from left to right')],
        'validation': [ssv2_entry(9, 'Stacking [number of] [something]')],
        'test': [{'id': '11'}],
    }
    for part, entries in parts.items():
        put_text(folder / f'{request.param}{part}.json', json.dumps(entries))
    labels = {
        'Approaching something with your camera': '0',
        'Wiping something off of something': '173',
    }
    put_text(folder / f'{request.param}labels.json', json.dumps(labels))
    for number in (9, 10, 11):
        put_video(tmp_path / '20bn-something-something-v2' / f'{number}.webm')
    return tmp_path


def test_training_and_validation_labels_become_clips(ssv2):
    dataset = read_dataset('ssv2', ssv2)
    assert dataset.problems == ()
    found = {clip.clip_id: (clip.split, clip.labels['action']) for clip in dataset.records}
    assert found == {
        '10': ('train', 'Pushing something from left to right'),
        '9': ('val', 'Stacking number of something'),
    }
    assert dataset.left_out == {'test clips without labels (test-answers.csv is not there)': 1}
    with VideoReader(dataset.records[0].video) as reader:
        assert len(list(reader)) == 10


def test_test_labels_are_read_if_they_exist(ssv2, put_text, kinds):
    put_text(ssv2 / 'labels' / 'test-answers.csv', '11;Opening something', 'nonsense')
    dataset = read_dataset('ssv2', ssv2)
    tests = [record for record in dataset.records if record.split == 'test']
    assert [(test.clip_id, test.labels['action']) for test in tests] == [
        ('11', 'Opening something')
    ]
    assert kinds(dataset) == {'bad value': 1}


def test_damaged_entries_are_problems(ssv2, put_text, kinds):
    folder = ssv2 / 'labels'
    for name in ('train.json', 'something-something-v2-train.json'):
        put_text(
            folder / name,
            json.dumps(
                [
                    ssv2_entry(10, 'Juggling [something]'),
                    ssv2_entry('../9', 'Opening [something]'),
                    ssv2_entry(12, 'Opening [something]'),
                    ssv2_entry(11, 'Opening [something]'),
                    ssv2_entry(11, 'Opening [something]'),
                ]
            ),
        )
    put_text(
        folder / 'labels.json', json.dumps({'Juggling something': '0', 'Squeezing something': '3'})
    )
    dataset = read_dataset('ssv2', ssv2)
    assert [record.clip_id for record in dataset.records] == ['11', '9']
    assert kinds(dataset) == {
        'unknown label': 3,
        'bad value': 1,
        'missing video': 1,
        'duplicate': 1,
    }
    for entries in ([{'template': 'x'}], [{'id': 1}], ['x'], {'id': 1}):
        put_text(folder / 'train.json', json.dumps(entries))
        with pytest.raises(DatasetError, match=r'train\.json.*expected'):
            read_dataset('ssv2', ssv2)
