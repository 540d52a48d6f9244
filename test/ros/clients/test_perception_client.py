# SPDX-License-Identifier: Apache-2.0
"""The client hands each message of a perception node to its callback, over real DDS."""

from itertools import count, pairwise

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from step_ros.msg import ActionEvent, ActionHypothesis, ModelInfo, TaskHypothesis
from step_ros.ros.clients.observer import Observer
from step_ros.ros.clients.perception_client import (
    PerceptionClient,
    PerceptionTopics,
    status_part,
    to_observation,
)
from step_ros.ros.conversion import to_duration, to_time
from step_ros.ros.images import from_rgb
from step_ros.ros.qos import LATCHED

TOPICS = PerceptionTopics.of_node('/perception')
SECOND = 10**9


def hypothesis(second=2):
    task = TaskHypothesis(
        task='action',
        labels=['open drawer', 'close drawer'],
        scores=[0.75, 0.25],
        counterpart='close drawer',
        counterpart_score=0.25,
        order_evidence=0.5,
    )
    message = ActionHypothesis(
        camera='front',
        model_id='tiny@0',
        tasks=[task],
        window_start=to_time((second - 1) * SECOND),
        latency=to_duration(12_000_000),
    )
    message.header.stamp = to_time(second * SECOND)
    return message


def diagnostics(*names, second=3):
    message = DiagnosticArray(status=[DiagnosticStatus(name=name) for name in names])
    message.header.stamp = to_time(second * SECOND)
    return message


@pytest.fixture
def client():
    made = PerceptionClient('client')
    yield made
    made.close()


@pytest.fixture
def publishers(ros):
    """Make the publishers of a perception node; `publishers()` waits until each has a reader."""
    made = {
        'hypotheses': ros.node.create_publisher(ActionHypothesis, TOPICS.hypotheses, 10),
        'events': ros.node.create_publisher(ActionEvent, TOPICS.events, 10),
        'model_info': ros.node.create_publisher(ModelInfo, TOPICS.model_info, LATCHED),
        'diagnostics': ros.node.create_publisher(DiagnosticArray, '/diagnostics', 10),
    }

    def wait_for_subscriptions(*names):
        for name in names:
            ros.spin_until(made[name].get_subscription_count)
        return made

    return wait_for_subscriptions


def test_each_callback_takes_its_messages(ros, client, publishers):
    hypotheses, events, models, statuses = [], [], [], []
    publishers()['model_info'].publish(ModelInfo(model_id='tiny@0'))
    client.subscribe(
        TOPICS,
        on_hypothesis=hypotheses.append,
        on_event=events.append,
        on_model_info=models.append,
        on_statuses=lambda stamp_ns, own: statuses.append((stamp_ns, own)),
    )
    client.start()
    made = publishers('hypotheses', 'events', 'diagnostics')
    for second in (1, 2, 3):
        made['hypotheses'].publish(hypothesis(second))
    made['events'].publish(ActionEvent(label='open drawer'))
    made['diagnostics'].publish(diagnostics('/perception: front', '/other: front'))
    ros.spin_until(lambda: len(hypotheses) == 3 and events and models and statuses)
    assert [message.header.stamp.sec for message in hypotheses] == [1, 2, 3]
    assert events[0].label == 'open drawer'
    # It was published before the client subscribed.
    assert models[0].model_id == 'tiny@0'
    ((stamp_ns, own),) = statuses
    assert stamp_ns == 3 * SECOND
    assert [status_part(status) for status in own] == ['front']


def test_diagnostics_of_other_nodes_are_left_out(ros, client, publishers):
    statuses = []
    client.subscribe(TOPICS, on_statuses=lambda stamp_ns, own: statuses.append(own))
    client.start()
    made = publishers('diagnostics')
    made['diagnostics'].publish(diagnostics('/other: front', 'motor', '/perception'))
    made['diagnostics'].publish(diagnostics('/other: front'))
    made['diagnostics'].publish(diagnostics('/perception: model'))
    ros.spin_until(lambda: bool(statuses) and statuses[-1][0].name == '/perception: model')
    assert [[status.name for status in own] for own in statuses] == [
        ['/perception'],
        ['/perception: model'],
    ]


def test_only_topics_with_a_callback_are_subscribed(ros, client, publishers):
    client.subscribe(TOPICS, on_event=lambda message: None)
    client.start()
    made = publishers('events')
    assert made['hypotheses'].get_subscription_count() == 0
    assert made['diagnostics'].get_subscription_count() == 0


def test_hypotheses_can_stay_serialised(ros, client, publishers):
    serialised = []
    client.subscribe(TOPICS, on_serialised_hypothesis=serialised.append)
    client.start()
    publishers('hypotheses')['hypotheses'].publish(hypothesis())
    ros.spin_until(lambda: serialised)
    assert deserialize_message(serialised[0], ActionHypothesis) == hypothesis()


def test_an_unknown_topic_is_not_subscribed(ros, client):
    client.subscribe(
        PerceptionTopics(hypotheses='/somewhere', names=frozenset({'/perception'})),
        on_hypothesis=lambda message: None,
        on_event=lambda message: None,
        on_model_info=lambda message: None,
    )
    topics = {subscription.topic_name for subscription in client.node.subscriptions}
    assert '/somewhere' in topics
    assert not [topic for topic in topics if topic.endswith(('events', 'model_info'))]


def test_a_node_of_the_caller_is_spun_by_the_caller(ros, publishers):
    hypotheses = []
    client = PerceptionClient(ros.node)
    client.subscribe(TOPICS, on_hypothesis=hypotheses.append)
    with pytest.raises(RuntimeError, match='test is the ROS node of the caller'):
        client.start()
    made = publishers('hypotheses')
    made['hypotheses'].publish(hypothesis())
    ros.spin_until(lambda: hypotheses)
    client.close()
    ros.spin_until(lambda: made['hypotheses'].get_subscription_count() == 0)
    # The node is still the caller's to use.
    assert ros.node.get_name() == 'test'


def test_connected_means_that_every_topic_has_a_publisher(ros):
    client = PerceptionClient(ros.node)
    client.subscribe(
        TOPICS,
        on_hypothesis=lambda message: None,
        on_event=lambda message: None,
        on_statuses=lambda stamp_ns, own: None,
    )
    hypotheses = ros.node.create_publisher(ActionHypothesis, TOPICS.hypotheses, 10)
    ros.spin(0.5)
    assert not client.connected()
    ros.node.create_publisher(ActionEvent, TOPICS.events, 10)
    ros.spin_until(client.connected)
    ros.node.destroy_publisher(hypotheses)
    ros.spin_until(lambda: not client.connected())


def test_a_closed_client_leaves_the_graph(ros, publishers):
    with PerceptionClient('client') as client:
        client.subscribe(TOPICS, on_hypothesis=lambda message: None)
        client.start()
        made = publishers('hypotheses')
    ros.spin_until(lambda: made['hypotheses'].get_subscription_count() == 0)
    client.close()  # a second call does nothing


def test_an_observation_holds_the_best_label_of_each_task():
    seen = to_observation(hypothesis(), arrival_ns=2 * SECOND + 20_000_000)
    assert (seen.camera, seen.window_start_ns, seen.stamp_ns) == ('front', SECOND, 2 * SECOND)
    assert seen.node_latency_ns == 12_000_000
    assert seen.latency_ms == 20
    best = seen.predictions['action']
    assert (best.label, best.score) == ('open drawer', 0.75)
    assert (best.counterpart, best.counterpart_score) == ('close drawer', 0.25)
    assert best.order_evidence == 0.5


def test_the_observer_collects_hypotheses_truth_and_pictures(ros, publishers):
    truth = ros.node.create_publisher(ActionEvent, '/camera/truth', LATCHED)
    images = ros.node.create_publisher(Image, '/camera/image_raw', qos_profile_sensor_data)
    start = ActionEvent(type=ActionEvent.START, task='action', label='open drawer')
    start.header.stamp = to_time(SECOND)
    # Latched: published before the observer subscribes.
    truth.publish(start)
    publishers()['model_info'].publish(ModelInfo(model_id='tiny@0'))
    with Observer(
        perception='/perception', image_topic='/camera/image_raw', truth_topic='/camera/truth'
    ) as observer:
        made = publishers('hypotheses')
        ros.spin_until(images.get_subscription_count)
        made['hypotheses'].publish(hypothesis())
        grey = np.full((16, 24, 3), 90, np.uint8)
        stamps = count(SECOND, 50_000_000)

        def complete():
            # Best effort may lose an image: publish until three have arrived.
            images.publish(from_rgb(grey, 'rgb8', Header(stamp=to_time(next(stamps)))))
            return (
                observer.model is not None
                and observer.observations
                and len(observer.arrivals_ns) >= 3
                and observer.truth.at('action', 2 * SECOND)
            )

        ros.spin_until(complete)
    assert observer.model.model_id == 'tiny@0'
    assert observer.observations[0].predictions['action'].label == 'open drawer'
    assert observer.truth.at('action', 2 * SECOND) == 'open drawer'
    # Images come every 50 ms; the observer keeps one every 90 ms at most.
    kept = [picture.stamp_ns for picture in observer.pictures]
    assert 1 < len(kept) < len(observer.arrivals_ns)
    assert min(after - before for before, after in pairwise(kept)) >= 90_000_000
    assert observer.pictures[0].image() == pytest.approx(grey, abs=2)
