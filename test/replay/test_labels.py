# SPDX-License-Identifier: Apache-2.0
"""True labels of a bag from events and CSV files, and the errors that name bad labels."""

import re

import pytest

from step_ros.evaluation.ground_truth import Truth, TruthSegment
from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.reader import END, START, BagEvent, BagReader
from step_ros.io.bags.writer import BagWriter
from step_ros.io.errors import DatasetError
from step_ros.replay.labels import (
    check_labels,
    check_within,
    cut_outside,
    find_labels,
    read_labels,
)

ZERO = 1_700_000_000 * 10**9
SECOND = 10**9
FRONT, SIDE = '/front/image_raw', '/side/image_raw'


def spans(truth, task='verb'):
    """Return the segments in seconds from the first image; None for no end."""
    return [
        (
            segment.label,
            (segment.start_ns - ZERO) / SECOND,
            None if segment.end_ns is None else (segment.end_ns - ZERO) / SECOND,
        )
        for segment in truth.segments[task]
    ]


@pytest.fixture
def events_bag(tmp_path, bag_image):
    """Write a bag of one image and events, as (type, label, seconds, start in seconds)."""

    def write(*events, frame_id=''):
        path = tmp_path / 'bag'
        with BagWriter(path) as writer:
            writer.image(FRONT, bag_image(0), ZERO, 'optical')
            for kind, label, stamp_s, start_s in events:
                event = BagEvent(
                    type=kind,
                    stamp_ns=ZERO + round(stamp_s * SECOND),
                    start_ns=0 if start_s is None else ZERO + round(start_s * SECOND),
                    task='verb',
                    label=label,
                    frame_id=frame_id,
                )
                writer.event('/truth', event, log_ns=ZERO + round(stamp_s * SECOND))
        return BagReader(path)

    return write


# ---- events


def test_touching_segments_of_a_label_are_joined(put_bag, tmp_path):
    labelled = [
        (0.0, 0.2, {'verb': 'push', 'object': 'box'}),
        (0.2, 0.4, {'verb': 'pull', 'object': 'box'}),
    ]
    bag = BagReader(put_bag(tmp_path / 'bag', FRONT, SIDE, labelled=labelled))
    truths = read_labels(bag, '', [FRONT, SIDE])
    assert list(truths) == [FRONT, SIDE]
    for truth in truths.values():
        assert spans(truth) == [('push', 0.0, 0.2), ('pull', 0.2, 0.4)]
        assert spans(truth, 'object') == [('box', 0.0, 0.4)]


def test_actions_cut_off_by_the_recording_are_completed(events_bag):
    bag = events_bag(
        (END, 'push', 0.5, -1.0),
        (START, 'pull', 0.5, 0.5),
        (END, 'pull', 1, 0.5),
        (START, 'push', 2, 2),
    )
    (truth,) = read_labels(bag, '/truth', [FRONT]).values()
    assert spans(truth) == [('push', -1.0, 0.5), ('pull', 0.5, 1.0), ('push', 2.0, None)]


def test_events_belong_to_cameras_with_their_frame_id(put_bag, tmp_path):
    labelled = [(0.0, 0.2, {'verb': 'push'})]
    frame_ids = {FRONT: 'front', SIDE: 'side'}
    bag = BagReader(
        put_bag(
            tmp_path / 'bag',
            *(FRONT, SIDE),
            labelled=labelled,
            frame_ids=frame_ids,
            event_frame_id='front',
        )
    )
    assert spans(read_labels(bag, '', [FRONT])[FRONT])
    with pytest.raises(BagError, match=f"no event is about {SIDE}.*'side'.*'front'"):
        read_labels(bag, '', [SIDE])


def test_bag_without_labels_has_no_truth(put_bag, tmp_path):
    assert read_labels(BagReader(put_bag(tmp_path / 'bag', FRONT)), '', [FRONT]) == {}


@pytest.mark.parametrize(
    ('events', 'reason'),
    [
        ([(START, 'push', 0, 0), (START, 'push', 1, 1)], 'an END before the next START'),
        ([(END, 'push', 1, None)], 'a START first'),
        ([(3, 'push', 1, 1)], 'START \\(1\\) or END \\(2\\)'),
        ([(START, '', 1, 1)], 'a word'),
        ([(START, 'push', 1, 1), (END, 'push', 0.5, 1)], 'after its START'),
        (
            [(START, 'push', 0, 0), (START, 'pull', 1, 1), (END, 'push', 2, 0)],
            "'push' and 'pull' at .*one label at a time",
        ),
    ],
)
def test_contradictory_events_are_refused(events_bag, events, reason):
    with pytest.raises(BagError, match=reason):
        read_labels(events_bag(*events), '/truth', [FRONT])


def test_topic_without_events_is_refused(put_bag, events_bag, tmp_path):
    bag = BagReader(put_bag(tmp_path / 'other', FRONT, labelled=[(0, 1, {'verb': 'push'})]))
    with pytest.raises(BagError, match=r"'/nothing'.*no such topic.*/camera/truth"):
        read_labels(bag, '/nothing', [FRONT])
    with pytest.raises(BagError, match=f"'{FRONT}'.*its type is sensor_msgs"):
        read_labels(bag, FRONT, [FRONT])


def test_several_topics_of_events_need_a_choice(tmp_path, bag_image):
    with BagWriter(tmp_path / 'bag') as writer:
        for topic in ('/a', '/b'):
            event = BagEvent(type=START, stamp_ns=ZERO, start_ns=ZERO, task='verb', label='push')
            writer.event(topic, event)
    with pytest.raises(BagError, match=r'several.*/a, /b; name one'):
        read_labels(BagReader(tmp_path / 'bag'), '', [])


def test_events_of_a_perception_node_are_never_labels(put_bag, tmp_path):
    labelled = [(0.0, 0.2, {'verb': 'push'})]
    path = put_bag(tmp_path / 'bag', FRONT, labelled=labelled, events_topic='/perception/events')
    bag = BagReader(path)
    source = find_labels(bag, '')
    assert (source.name, list(source.left_out)) == ('', ['/perception/events'])
    assert read_labels(bag, '', [FRONT]) == {}
    with pytest.raises(BagError, match=r'/perception/events: .*a perception node published'):
        read_labels(bag, '/perception/events', [FRONT])


def test_truth_beside_the_events_of_a_node_is_chosen(tmp_path, bag_image):
    with BagWriter(tmp_path / 'bag') as writer:
        writer.image(FRONT, bag_image(0), ZERO)
        for topic, label, score in (('/truth', 'push', 1.0), ('/watcher/events', 'pull', 0.7)):
            for kind, at in ((START, ZERO), (END, ZERO + SECOND)):
                event = BagEvent(
                    type=kind, stamp_ns=at, start_ns=ZERO, task='verb', label=label, score=score
                )
                writer.event(topic, event)
    bag = BagReader(tmp_path / 'bag')
    source = find_labels(bag, '')
    assert (source.name, list(source.left_out)) == ('/truth', ['/watcher/events'])
    assert spans(read_labels(bag, source, [FRONT])[FRONT]) == [('push', 0.0, 1.0)]


# ---- CSV files


@pytest.fixture
def table(put_bag, tmp_path):
    """Write labels.csv beside two bags and read it for the first bag: `table(*rows)`."""
    put_bag(tmp_path / 'one', FRONT, SIDE)
    put_bag(tmp_path / 'two', FRONT, SIDE)

    def read(*rows, topics=(FRONT, SIDE)):
        path = tmp_path / 'labels.csv'
        path.write_text('\n'.join(rows) + '\n')
        return read_labels(BagReader(tmp_path / 'one'), str(path), topics)

    return read


def test_rows_label_the_cameras_they_name(table):
    truths = table(
        'video,start,end,view,verb,object',
        'one,0,0.1,,push,',
        f'one,0.1,0.3,{SIDE},pull,box',
        'two,0,0.2,,push,',
    )
    assert spans(truths[FRONT]) == [('push', 0.0, 0.1)]
    # The side camera's first image is a microsecond later.
    assert [row[0] for row in spans(truths[SIDE])] == ['push', 'pull']
    assert truths[SIDE].segments['verb'][1].start_ns == ZERO + SECOND // 10 + 1000
    assert spans(truths[SIDE], 'object')[0][0] == 'box'


def test_row_without_times_labels_the_whole_bag(table):
    assert spans(table('video,start,end,verb', 'one,,,push')[FRONT]) == [('push', 0.0, None)]


@pytest.mark.parametrize(
    ('rows', 'error', 'reason'),
    [
        (
            ['video,start,end,verb', 'two,0,1,push'],
            BagError,
            'no row of labels.*the rows name two',
        ),
        (['video,start,end,view,verb', 'one,0,1,/top,push'], BagError, "csv:2: view '/top'"),
        (
            ['video,start,end,view,verb', f'one,0,1,{SIDE},push'],
            BagError,
            f'no row of labels.csv is about {FRONT}',
        ),
        (['video,start,end,verb', 'one,1,0,push'], DatasetError, 'csv:2.*0 <= start < end'),
        (['video,start,end,verb', 'one,0,inf,push'], DatasetError, 'csv:2.*a number of seconds'),
        (['video,start,end,verb', 'one,0,1'], DatasetError, 'csv:2.*4 cells'),
        (['video,start,verb', 'one,0,push'], DatasetError, "column 'end' is missing"),
        (['video,start,end', 'one,0,1'], DatasetError, 'a column for each task'),
        (['video,start,end,verb'], DatasetError, 'expected rows'),
    ],
)
def test_bad_tables_are_refused(table, rows, error, reason):
    with pytest.raises(error, match=reason):
        table(*rows)


# ---- against bundle and images


def truth_of(label, start_s, end_s, task='verb'):
    truth = Truth()
    truth.segments[task].append(
        TruthSegment(label=label, start_ns=ZERO + start_s * SECOND, end_ns=ZERO + end_s * SECOND)
    )
    return truth


def test_labels_unknown_to_the_bundle_are_refused(put_bag, tmp_path, tiny_bundle):
    bag = BagReader(put_bag(tmp_path / 'bag', FRONT))
    tasks, name = tiny_bundle.spec.tasks, tiny_bundle.model_id
    check_labels(bag, truth_of('push', 0, 1), tasks, name)
    with pytest.raises(BagError, match=rf"verb 'shove'.*{re.escape(name)}.*rest, push, pull"):
        check_labels(bag, truth_of('shove', 0, 1), tasks, name)
    with pytest.raises(
        BagError, match=r'of the tasks mood; expected a task.*action, verb, object'
    ):
        check_labels(bag, truth_of('calm', 0, 1, task='mood'), tasks, name)


def test_labels_outside_the_images_are_refused(tmp_path):
    times = {'first_ns': ZERO, 'last_ns': ZERO + 5 * SECOND}
    for start_s, end_s in ((-1, 1), (4, 9), (5, 9)):
        check_within(tmp_path, FRONT, truth_of('push', start_s, end_s), **times)
    for start_s, end_s in ((-2, 0), (6, 9)):
        with pytest.raises(BagError, match=f"verb 'push'.*outside the images of {FRONT}"):
            check_within(tmp_path, FRONT, truth_of('push', start_s, end_s), **times)


def test_labels_from_before_the_recording_are_left_out():
    truth = Truth()
    for start_s, end_s in ((-4, -2), (-2, 1), (1, 2), (7, 8)):
        segment = TruthSegment(
            label='push', start_ns=ZERO + start_s * SECOND, end_ns=ZERO + end_s * SECOND
        )
        truth.segments['verb'].append(segment)
    times = {'first_ns': ZERO, 'last_ns': ZERO + 5 * SECOND}
    assert cut_outside(truth, **times) == 2
    assert spans(truth) == [('push', -2.0, 1.0), ('push', 1.0, 2.0)]
    # If none lies inside, the clocks differ: `check_within` says so.
    other = truth_of('push', 7, 9)
    assert cut_outside(other, **times) == 0
    assert spans(other) == [('push', 7.0, 9.0)]
