# SPDX-License-Identifier: Apache-2.0
"""IKEA-ASM in miniature, with the published file names and columns."""

import json
import sqlite3
from collections import Counter

import pytest

from step_ros.datasets.clip import Span
from step_ros.datasets.registry import read_dataset
from step_ros.io.errors import DatasetError

SCANS = {
    # Calibrations 1, 6, 9 and 4: environments 1, 3, 5 and 2.
    'Lack_TV_Bench/0001_black_table_01_01_2019_08_20_16_41': 'training',
    'Lack_TV_Bench/0002_white_floor_06_01_2019_08_21_10_05': 'training',
    'Kallax_Shelf_Drawer/0003_oak_table_09_02_2019_08_22_11_07': 'training',
    'Lack_Side_Table/0004_black_floor_04_01_2019_08_23_12_09': 'testing',
}


@pytest.fixture
def ikea(tmp_path, put_video, put_text):
    segments = [
        {'label': 'NA', 'segment': [0, 3]},
        {'label': 'pick up leg', 'segment': [4, 9]},
    ]
    database = {scan: {'subset': subset, 'annotation': segments} for scan, subset in SCANS.items()}
    put_text(tmp_path / 'gt_segments.json', json.dumps({'database': database}))
    for scan in SCANS:
        for view in ('dev1', 'dev3'):
            put_video(tmp_path / scan / view / 'images' / 'scan_video.avi')
    return tmp_path


def put_database(path, *, columns='id, video_name, video_path, furniture, camera, annotated'):
    """Write an annotation database for the four scans, in dev3."""
    database = sqlite3.connect(path)
    database.execute(f'CREATE TABLE videos ({columns}, nframes)')
    database.execute(
        'CREATE TABLE annotations (video_id, atomic_action_id, object_id, starting_frame, '
        'ending_frame, action_description, object_name)'
    )
    for number, scan in enumerate(SCANS, start=1):
        values = [number, scan.split('/')[1], f'{scan}/dev3/images', 'x', 'dev3', 1, 10]
        names = columns.count(',') + 2
        database.execute(f'INSERT INTO videos VALUES ({", ".join("?" * names)})', values[-names:])
        for row in (
            (number, 2, 3, 4, 7, 'pick up ...', 'leg'),
            (number, 9, 1, 6, 10, 'other', None),
            (number, 2, 9, 1, 2, 'pick up ...', 'hammer'),
        ):
            database.execute('INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?)', row)
    database.commit()
    return database


def test_segments_become_clips(ikea):
    dataset = read_dataset('ikea-asm', ikea)
    assert dataset.problems == ()
    assert len(dataset.records) == 8
    splits = {record.subject: record.split for record in dataset.records}
    assert splits == {'0001': 'train', '0002': 'val', '0003': 'train', '0004': 'test'}
    clip = next(record for record in dataset.records if record.labels['action'] == 'pick up leg')
    assert clip.labels == {'action': 'pick up leg', 'verb': 'pick up', 'object': 'leg'}
    # A segment includes its last frame; a span does not include its end.
    assert clip.span == Span(start=4, end=10, unit='frames')
    assert clip.view == 'dev3'
    assert clip.video.relative_to(ikea).as_posix().endswith('/dev3/images/scan_video.avi')


@pytest.mark.parametrize(('environment', 'validating'), [('1', '0001'), ('5', '0003'), ('', '')])
def test_option_chooses_the_validation_environment(ikea, environment, validating):
    dataset = read_dataset('ikea-asm', ikea, validation_environment=environment)
    found = {record.subject for record in dataset.records if record.split == 'val'}
    assert found == {validating} - {''}


def test_option_chooses_the_views(ikea, kinds):
    dataset = read_dataset('ikea-asm', ikea, view='dev1')
    assert {record.view for record in dataset.records} == {'dev1'}
    every = read_dataset('ikea-asm', ikea, view='all')
    assert Counter(record.view for record in every.records) == {'dev1': 8, 'dev3': 8}
    # Four videos of dev2 are missing; each is one problem, not one for each clip.
    assert kinds(every) == {'missing video': 4}
    assert every.left_out == {'further clips of missing videos': 4}


def test_database_is_cut_like_the_export(ikea):
    put_database(ikea / 'ikea_annotation_db_full').close()
    dataset = read_dataset('ikea-asm', ikea, annotations='ikea_annotation_db_full')
    first = [record for record in dataset.records if record.subject == '0001']
    assert [(record.labels['action'], record.span.start, record.span.end) for record in first] == [
        ('NA', 0, 4),
        ('pick up leg', 4, 6),
        ('other', 6, 10),
    ]
    assert dataset.problems == ()
    assert dataset.left_out == {'annotations of rare actions, background by the dataset': 4}


def test_damaged_database_rows_are_problems(ikea, kinds):
    database = put_database(ikea / 'ikea_annotation_db_full')
    database.execute('UPDATE annotations SET ending_frame = 99 WHERE video_id = 1')
    database.execute("UPDATE annotations SET starting_frame = 'x' WHERE video_id = 2")
    database.execute('UPDATE videos SET nframes = NULL WHERE id = 3')
    database.execute("UPDATE videos SET video_path = 'nonsense' WHERE id = 4")
    database.commit()
    database.close()
    dataset = read_dataset('ikea-asm', ikea, annotations='ikea_annotation_db_full')
    # Frames of unusable annotations are not counted as background.
    assert [(r.subject, r.labels['action'], r.span.end) for r in dataset.records] == [
        ('0001', 'NA', 4),
        ('0002', 'NA', 10),
    ]
    assert kinds(dataset) == {'bad span': 4, 'bad value': 2}


def test_damaged_segments_are_problems(ikea, put_text, kinds):
    first, second, third, fourth = SCANS
    annotation = [
        {'label': 'dance', 'segment': [0, 3]},
        {'label': 'NA', 'segment': [5, 3]},
        {'label': 'NA', 'segment': [5]},
        {'label': 'NA', 'segment': [-1, 3]},
        {'label': 'NA', 'segment': 'all'},
        {'label': 'NA'},
        {'label': 'NA', 'segment': [0, 3]},
        {'label': 'NA', 'segment': [0, 3]},
    ]
    good = [{'label': 'NA', 'segment': [0, 3]}]
    database = {
        first: {'subset': 'training', 'annotation': annotation},
        second: {'subset': 'testing', 'annotation': good},
        third.replace('_09_', '_03_'): {'subset': 'training', 'annotation': good},
        'elsewhere': {'subset': 'training', 'annotation': good},
        'Lack_TV_Bench/special_test': {'subset': 'training', 'annotation': good},
        fourth: {'subset': 'testing', 'annotation': good},
    }
    put_text(ikea / 'gt_segments.json', json.dumps({'database': database}))
    dataset = read_dataset('ikea-asm', ikea)
    assert sorted(record.subject for record in dataset.records) == ['0001', '0004']
    assert kinds(dataset) == {'unknown label': 1, 'bad span': 4, 'bad value': 4, 'duplicate': 1}
    assert dataset.left_out == {'special scans, in neither part': 1}


def test_missing_column_is_named(ikea):
    put_database(ikea / 'db', columns='id, video_path').close()
    with pytest.raises(DatasetError, match=r"table videos: column 'camera' is missing"):
        read_dataset('ikea-asm', ikea, annotations='db')


def test_file_that_is_no_database_is_refused(ikea, put_text):
    put_text(ikea / 'db', 'nonsense ' * 200)
    with pytest.raises(DatasetError, match=r'expected an sqlite database'):
        read_dataset('ikea-asm', ikea, annotations='db')


def test_wrong_validation_environment_is_refused(ikea):
    for environment in ('2', '6'):
        with pytest.raises(DatasetError, match=f'environment {environment} does not train'):
            read_dataset('ikea-asm', ikea, validation_environment=environment)
