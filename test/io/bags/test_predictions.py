# SPDX-License-Identifier: Apache-2.0
"""Events of a perception node are told from events that say what is true."""

import math

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.predictions import refuse_predictions, why_predicted
from step_ros.io.bags.reader import END, START, BagEvent, BagReader
from step_ros.io.bags.storage import our_types
from step_ros.io.bags.writer import BagWriter

ZERO = 1_700_000_000 * 10**9


def put_events(path, topic, *, score=1.0, order_evidence=1.0):
    """Write a bag with the START and END of an action."""
    with BagWriter(path) as writer:
        for kind, at in ((START, ZERO), (END, ZERO + 10**9)):
            event = BagEvent(
                type=kind,
                stamp_ns=at,
                start_ns=ZERO,
                task='verb',
                label='push',
                score=score,
                order_evidence=order_evidence,
            )
            writer.event(topic, event)
    return BagReader(path)


def put_beside(path, topic, kind, other):
    """Write a bag with events, and with a topic of another type that has no message."""
    put_events(path / 'events', topic)
    with Writer(path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for name, type_ in ((topic, 'step_ros/msg/ActionEvent'), (other, kind)):
            writer.add_connection(name, type_, typestore=our_types())
    return BagReader(path / 'bag')


@pytest.mark.parametrize('topic', ['/perception/events', '/robot1/perception/events'])
def test_topic_of_a_perception_node_is_no_truth(tmp_path, topic):
    assert 'its name' in why_predicted(put_events(tmp_path / 'bag', topic), topic)


@pytest.mark.parametrize(
    ('fields', 'sign'),
    [
        ({'score': 0.83}, "event 1 (verb 'push') has the score 0.83"),
        ({'score': math.nan}, 'the score nan'),
        ({'order_evidence': 0.4}, 'the order evidence 0.4'),
        ({'order_evidence': math.nan}, 'the order evidence nan'),
    ],
)
def test_scores_of_a_model_are_no_truth(tmp_path, fields, sign):
    bag = put_events(tmp_path / 'bag', '/camera/truth', **fields)
    assert sign in why_predicted(bag, '/camera/truth')
    with pytest.raises(BagError, match='no prediction is a true label; expected labels in a CSV'):
        refuse_predictions(bag, '/camera/truth')


@pytest.mark.parametrize(
    ('kind', 'other'),
    [
        ('step_ros/msg/ModelInfo', '/robot1/watcher/model_info'),
        ('step_ros/msg/ActionHypothesis', '/robot1/watcher/hypotheses'),
    ],
)
def test_topics_of_a_model_beside_the_events_are_a_sign(tmp_path, kind, other):
    bag = put_beside(tmp_path, '/robot1/watcher/actions', kind, other)
    assert why_predicted(bag, '/robot1/watcher/actions').startswith(f'{other} beside it')


def test_model_of_another_namespace_is_no_sign(tmp_path):
    kind, other = 'step_ros/msg/ModelInfo', '/robot1/perception/model_info'
    bag = put_beside(tmp_path / 'one', '/robot1/labels', kind, other)
    assert why_predicted(bag, '/robot1/labels') == ''
    # A camera that knows the truth may share the namespace of the node.
    bag = put_beside(tmp_path / 'two', '/cell/truth', kind, '/cell/model_info')
    assert why_predicted(bag, '/cell/truth') == ''


@pytest.mark.parametrize('bare', [False, True])
@pytest.mark.parametrize('latched', [False, True])
def test_recorded_quality_of_service_is_a_sign(tmp_path, latched, bare):
    put_events(tmp_path / 'bag', '/watcher/events')
    storage = tmp_path / 'bag' / 'bag.mcap'
    if not latched:
        for file in (storage, tmp_path / 'bag' / 'metadata.yaml'):
            file.write_bytes(file.read_bytes().replace(b'durability: 1', b'durability: 2'))
    bag = BagReader(storage if bare else tmp_path / 'bag')
    assert bag.topics['/watcher/events'].latched is latched
    assert ('volatile' in why_predicted(bag, '/watcher/events')) is not latched


@pytest.mark.parametrize('fields', [{}, {'score': 0.0}, {'order_evidence': 0.0}])
def test_truth_and_unset_scores_are_truth(tmp_path, fields):
    bag = put_events(tmp_path / 'bag', '/annotations', **fields)
    assert why_predicted(bag, '/annotations') == ''
    refuse_predictions(bag, '/annotations')
