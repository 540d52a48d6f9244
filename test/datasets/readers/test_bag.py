# SPDX-License-Identifier: Apache-2.0
"""Bags as a dataset, labelled by action events."""

import shutil
import sys

import numpy as np
import pytest

from step_ros.datasets.check import check_dataset
from step_ros.datasets.clip import Span
from step_ros.datasets.frames import index_clip, read_frames, span_frames
from step_ros.datasets.registry import read_dataset
from step_ros.io.bags.reader import END, START, BagEvent
from step_ros.io.bags.writer import BagWriter
from step_ros.io.errors import DatasetError

FRONT, TOP = '/front/image_raw', '/top/image_raw'
OPEN, CLOSE = {'verb': 'open', 'object': 'box'}, {'verb': 'close', 'object': 'jar'}
LABELLED = [(0.05, 0.2, OPEN), (0.25, 0.5, CLOSE)]

# Modules that import rosbags.
BAG_MODULES = ('step_ros.io.bags', 'step_ros.datasets.readers.bag_')


def test_events_become_clips(bags, bag_image):
    dataset = read_dataset('bag', bags)
    assert dataset.problems == ()
    assert [record.split for record in dataset.records] == ['test'] * 2 + ['train'] * 2 + [
        'val'
    ] * 2
    first = dataset.records[2]
    assert first.clip_id == 'train/kitchen/front/image_raw:0.05-0.2'
    assert (first.video, first.topic) == (bags / 'train' / 'kitchen', FRONT)
    assert (first.view, first.labels) == (FRONT, {'object': 'box', 'verb': 'open'})
    assert first.span == Span(start=0.05, end=0.2, unit='seconds')
    assert dataset.config.task('object').labels == ('box', 'jar')
    index = index_clip(first)
    images = read_frames(index, span_frames(index, first.span))
    assert np.array_equal(images, np.stack([bag_image(number) for number in (1, 2, 3)]))


def test_single_bag_and_links_to_bags_are_read(bags, tmp_path_factory):
    dataset = read_dataset('bag', bags / 'train' / 'kitchen', split='test')
    assert [record.clip_id for record in dataset.records] == [
        'kitchen/front/image_raw:0.05-0.2',
        'kitchen/front/image_raw:0.25-0.5',
    ]
    assert {record.split for record in dataset.records} == {'test'}
    with pytest.raises(DatasetError, match=r'or give option split'):
        read_dataset('bag', bags / 'train' / 'kitchen')
    root = tmp_path_factory.mktemp('links')
    (root / 'val').mkdir()
    (root / 'val' / 'linked').symlink_to(bags / 'test' / 'kitchen')
    (root / 'val' / 'circle').symlink_to(root)
    dataset = read_dataset('bag', root)
    assert dataset.records[0].clip_id == 'val/linked/front/image_raw:0.05-0.2'
    assert len(dataset.records) == 2


def test_bag_outside_the_split_folders_is_a_problem(bags, put_bag, problems_of):
    put_bag(bags / 'extra' / 'bag', FRONT, labelled=LABELLED)
    dataset = read_dataset('bag', bags)
    assert len(dataset.records) == 6
    assert problems_of(dataset) == [('bad value', 'folder', 'extra/bag')]
    assert len(read_dataset('bag', bags, split='train').records) == 8


def test_option_topic_chooses_cameras(tmp_path, put_bag, problems_of):
    put_bag(tmp_path / 'train' / 'one', FRONT, TOP, labelled=LABELLED)
    put_bag(tmp_path / 'train' / 'two', FRONT, labelled=LABELLED)
    with pytest.raises(DatasetError, match=f"option topic='': .* images: {FRONT}, {TOP} .*or all"):
        read_dataset('bag', tmp_path)
    with pytest.raises(DatasetError, match="option topic='/gone': expected one of"):
        read_dataset('bag', tmp_path, topic=f'{FRONT},/gone')
    both = read_dataset('bag', tmp_path, topic='all')
    assert (len(both.records), both.problems) == (6, ())
    assert [view.name for view in both.config.views] == [FRONT, TOP]
    front = read_dataset('bag', tmp_path, topic=FRONT)
    assert [record.view for record in front.records] == [FRONT] * 4
    # A bag must have every topic that the option names.
    named = read_dataset('bag', tmp_path, topic=f'{FRONT}, {TOP}')
    assert {record.clip_id for record in named.records} == {r.clip_id for r in both.records}
    assert problems_of(named) == [('missing video', 'topic', TOP)]


def test_seconds_count_from_the_first_image_of_a_camera(tmp_path, put_bag):
    # The second camera's stamps are a thousand nanoseconds later.
    put_bag(tmp_path / 'bag', FRONT, TOP, labelled=LABELLED)
    dataset = read_dataset('bag', tmp_path, topic='all', split='train')
    starts = {record.topic: record.span.start for record in dataset.records[::2]}
    assert starts == {FRONT: 0.05, TOP: 0.049999}
    for record in dataset.records:
        index = index_clip(record)
        first = index.stamps_ns[span_frames(index, record.span)[0]] + index.start_ns
        assert 0 <= first - 1_700_000_000 * 10**9 - round(record.span.start * 1e9) <= 2000


def test_events_belong_to_the_camera_of_their_frame_id(tmp_path, put_bag, problems_of):
    frame_ids = {FRONT: 'front_optical', TOP: 'top_optical'}
    common = {'labelled': LABELLED, 'frame_ids': frame_ids}
    put_bag(tmp_path / 'one', FRONT, TOP, event_frame_id='top_optical', **common)
    dataset = read_dataset('bag', tmp_path, topic='all', split='train')
    assert {record.topic for record in dataset.records} == {TOP}
    dataset = read_dataset('bag', tmp_path, topic=FRONT, split='train')
    assert (dataset.records, dataset.problems) == ((), ())
    assert dataset.left_out == {'clips of other cameras': 2}
    put_bag(tmp_path / 'two', FRONT, TOP, event_frame_id='world', **common)
    dataset = read_dataset('bag', tmp_path, topic='all', split='train')
    assert problems_of(dataset) == [('bad value', 'event frame_id', 'world')] * 2
    assert "'front_optical', 'top_optical'" in dataset.problems[0].expected


def test_option_labels_chooses_the_topic_of_events(tmp_path, put_bag, problems_of):
    put_bag(tmp_path / 'one', FRONT, labelled=LABELLED, events_topic='/truth')
    put_bag(tmp_path / 'two', FRONT, labelled=LABELLED, events_topic='/recognised')
    with pytest.raises(
        DatasetError, match=r"labels='': .* ActionEvents: /recognised, /truth, or a"
    ):
        read_dataset('bag', tmp_path, split='train')
    dataset = read_dataset('bag', tmp_path, split='train', labels='/truth')
    assert len(dataset.records) == 2
    assert problems_of(dataset) == [('bad value', 'labels', '/truth')]
    put_bag(tmp_path / 'three' / 'none', FRONT)
    with pytest.raises(DatasetError, match=r'ActionEvents: none, or a CSV file'):
        read_dataset('bag', tmp_path / 'three', split='train')
    with pytest.raises(DatasetError, match=r"split='training': expected folder, train, val, test"):
        read_dataset('bag', tmp_path, split='training')


def test_clip_may_lack_labels_of_a_task(tmp_path, put_bag):
    labelled = [*LABELLED, (0.3, 0.4, {'verb': 'open'}), (0.3, 0.45, {'object': 'box'})]
    put_bag(tmp_path / 'bag', FRONT, labelled=labelled)
    dataset = read_dataset('bag', tmp_path, split='train')
    assert [dict(record.labels) for record in dataset.records[-2:]] == [
        {'verb': 'open'},
        {'object': 'box'},
    ]
    check = check_dataset(dataset)
    assert check.clean
    assert sum(check.counts['verb']['open'].values()) == 2


def test_dataset_file_gives_labels_and_views(bags, put_text, put_bag, problems_of):
    config = put_text(
        bags / 'mine.yaml',
        'name: mine',
        'title: Mine',
        'tasks:',
        '  - {name: verb, classes: 2, labels: [close, open], pairs: [[open, close]]}',
        '  - name: kind',
        '    classes: 2',
        '    labels: [begins, ends]',
        '    derived_from: verb',
        '    derivation: {begins: [open], ends: [close]}',
        'views: [{name: front, meaning: front}]',
        'splits: [{name: file, unit: files}]',
        'evaluation: {sampling: interval, frames: 8, interval: 1, clips: 1}',
    )
    put_bag(bags / 'train' / 'other', FRONT, labelled=[(0.1, 0.2, {'verb': 'wipe'})])
    dataset = read_dataset('bag', bags, config=config)
    assert dataset.records[0].labels == {'verb': 'open', 'kind': 'begins'}
    assert {record.view for record in dataset.records} == {'front'}
    assert problems_of(dataset) == [('unknown label', 'verb', 'wipe')]
    assert dataset.left_out == {'events of other tasks': 6}
    put_bag(bags / 'train' / 'more', TOP, labelled=LABELLED)
    with pytest.raises(
        DatasetError, match=f'views front: expected the image topics {FRONT}, {TOP}'
    ):
        read_dataset('bag', bags, config=config, topic='all')


def test_damaged_bags_are_problems_and_others_are_read(bags, put_bag):
    put_bag(bags / 'train' / 'cut', FRONT, labelled=LABELLED)
    content = (bags / 'train' / 'cut' / 'cut.mcap').read_bytes()
    (bags / 'train' / 'cut' / 'cut.mcap').write_bytes(content[:300])
    (bags / 'train' / 'killed').mkdir()
    (bags / 'train' / 'killed' / 'killed_0.mcap').write_bytes(content[:500])
    (bags / 'train' / 'ros1.bag').write_bytes(b'#ROSBAG V2.0\n')
    shutil.copytree(bags / 'val' / 'kitchen', bags / 'val' / 'no_metadata')
    (bags / 'val' / 'no_metadata' / 'metadata.yaml').write_text('no')
    dataset = read_dataset('bag', bags)
    assert len(dataset.records) == 6
    assert [(problem.kind, problem.file.name) for problem in dataset.problems] == [
        ('undecodable video', 'killed_0.mcap'),
        ('undecodable video', 'ros1.bag'),
        ('undecodable video', 'no_metadata'),
        ('undecodable video', 'cut'),
    ]
    assert 'cut.mcap is damaged or was cut short' in dataset.problems[3].expected
    check = check_dataset(dataset)
    assert not check.clean
    assert str(bags / 'train' / 'cut') in check.undecodable_videos


def test_error_without_readable_bags_gives_the_reason(tmp_path):
    with pytest.raises(DatasetError, match=r'no bag that can be read; expected folders with meta'):
        read_dataset('bag', tmp_path)
    (tmp_path / 'a.mcap').write_text('no bag')
    with pytest.raises(DatasetError, match=r'; 1 problems, the first: .*a\.mcap is damaged'):
        read_dataset('bag', tmp_path)


def test_error_without_rosbags_says_how_to_install_it(bags, monkeypatch):
    for name in [*sys.modules]:
        if name.startswith(BAG_MODULES) or name.split('.')[0] == 'rosbags':
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'rosbags', None)
    with pytest.raises(DatasetError, match=r'rosbags\S* is missing; install it'):
        read_dataset('bag', bags)


def test_events_before_the_first_image_are_problems(tmp_path, put_bag, bag_image, problems_of):
    put_bag(tmp_path / 'bag', FRONT, labelled=LABELLED)
    late = BagWriter(tmp_path / 'late')
    zero_ns = 1_700_000_000 * 10**9
    with late:
        for number in range(2):
            late.image(FRONT, bag_image(number), zero_ns + number)
        for kind, at in ((START, zero_ns - 1), (END, zero_ns + 1)):
            event = BagEvent(type=kind, stamp_ns=at, start_ns=0, task='verb', label='open')
            late.event('/camera/truth', event)
    dataset = read_dataset('bag', tmp_path, split='val')
    assert len(dataset.records) == 2
    assert problems_of(dataset) == [('bad span', 'event stamp', f'{zero_ns - 1}')]
    assert dataset.problems[0].file == tmp_path / 'late'
    assert dataset.problems[0].row == 1


def test_events_of_a_perception_node_label_no_clip(tmp_path, put_bag, problems_of):
    put_bag(tmp_path / 'own', FRONT, labelled=LABELLED, events_topic='/perception/events')
    with pytest.raises(DatasetError, match=r'none, or a CSV file; no prediction is .*/perception'):
        read_dataset('bag', tmp_path, split='train')
    put_bag(tmp_path / 'true', FRONT, labelled=LABELLED)
    dataset = read_dataset('bag', tmp_path, split='train')
    assert len(dataset.records) == 2
    with pytest.raises(DatasetError, match=r'true labels, not the events of a perception node'):
        read_dataset('bag', tmp_path, split='train', labels='/perception/events')


def test_labels_begun_late_keep_what_the_images_show(tmp_path, bag_image):
    # The images are whole, but the START of the second action was not recorded.
    zero_ns, second = 1_700_000_000 * 10**9, 10**9
    with BagWriter(tmp_path / 'bag') as writer:
        for number in range(60):
            writer.image(FRONT, bag_image(number), zero_ns + number * second // 20)
        for label, start_s, end_s in (('open', -1, 0.5), ('close', 1, 2)):
            event = BagEvent(
                type=END,
                stamp_ns=zero_ns + round(end_s * second),
                start_ns=zero_ns + start_s * second,
                task='verb',
                label=label,
            )
            writer.event('/camera/truth', event)
    dataset = read_dataset('bag', tmp_path, split='train')
    assert [(each.labels['verb'], each.span.start) for each in dataset.records] == [('close', 1.0)]
    assert dataset.problems == ()
    assert dataset.left_out == {'actions that began before the recording': 1}


def test_check_decodes_every_camera(bags, put_bag):
    put_bag(bags / 'val' / 'long', FRONT, labelled=[(0.1, 2.0, OPEN)])
    put_bag(bags / 'val' / 'cut', FRONT, storage='sqlite3', labelled=LABELLED, frames=4)
    dataset = read_dataset('bag', bags)
    path = bags / 'val' / 'cut' / 'metadata.yaml'
    path.write_text(path.read_text().replace('message_count: 4', 'message_count: 9'))
    dataset = read_dataset('bag', bags)
    shown = []
    check = check_dataset(
        dataset, decode=True, progress=lambda videos: shown.extend(videos) or videos
    )
    assert check.decoded == len(shown) == 5
    spans = [problem for problem in check.problems if problem.kind == 'bad span']
    assert [(problem.file.name, problem.value) for problem in spans] == [('long', '2 seconds')]
    assert 'at most 0.600 s (12 frames)' in spans[0].expected
    assert check.undecodable_videos == (str(bags / 'val' / 'cut'),)
