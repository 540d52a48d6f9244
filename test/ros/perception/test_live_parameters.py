# SPDX-License-Identifier: Apache-2.0
"""Parameters that change while the perception node runs: at once, or rejected with a reason."""

import math

import pytest
from lifecycle_msgs.msg import Transition
from rclpy.qos import ReliabilityPolicy

from step_ros.msg import ActionEvent

TOPIC = '/camera/image_raw'
TASKS = ['action', 'verb', 'object']

# Rejected values, and a part of the reason.
REJECTED = [
    ({'off_threshold': 0.9}, 'off_threshold=0.9 is above on_threshold=0.6'),
    ({'on_threshold': 0.3}, 'off_threshold=0.4 is above on_threshold=0.3'),
    ({'active_tasks': ['smell']}, "active_tasks=['smell']: the tasks of tiny@"),
    ({'active_cameras': ['rear']}, "active_cameras=['rear']: the cameras are camera"),
    ({'top_k': 0}, 'top_k'),
    ({'top_k': 1.5}, 'Wrong parameter type'),
    ({'top_k': None}, 'Static parameter cannot be undeclared'),
    ({'smoothing': -1.0}, 'smoothing'),
    ({'smoothing': math.nan}, 'smoothing'),
    ({'minimum_gap': math.nan}, 'minimum_gap'),
    ({'on_threshold': math.nan}, 'on_threshold'),
    ({'executor': 'pigeon'}, "executor is 'pigeon'; expected one of auto, events, single"),
]


@pytest.fixture
def film(managed_node, user):
    managed_node()
    film = user.film()
    user.activate(TOPIC)
    film.show(4)
    user.wait_for(lambda: len(user.hypotheses) == 1, 'a hypothesis')
    return film


def next_hypothesis(film, user):
    count = len(user.hypotheses)
    film.show()
    user.wait_for(lambda: len(user.hypotheses) > count, 'the next hypothesis')
    return user.hypotheses[-1]


def test_output_changes_at_once(film, user, tiny_bundle):
    sizes = [len(task.labels) for task in tiny_bundle.spec.tasks]
    assert not user.set(top_k=1)
    assert [len(task.labels) for task in next_hypothesis(film, user).tasks] == [1, 1, 1]
    assert not user.set(top_k=1000)
    assert [len(task.labels) for task in next_hypothesis(film, user).tasks] == sizes
    assert not user.set(active_tasks=['object', 'action'])
    assert [task.task for task in next_hypothesis(film, user).tasks] == ['action', 'object']
    assert not user.set(active_tasks=[''])
    assert [task.task for task in next_hypothesis(film, user).tasks] == TASKS


def test_smoothing_changes_at_once(film, user):
    def scores(hypothesis):
        return [dict(zip(t.labels, t.scores, strict=True)) for t in hypothesis.tasks]

    assert not user.set(top_k=1000, smoothing=60.0)
    before = scores(next_hypothesis(film, user))
    after = scores(next_hypothesis(film, user))
    for old, new in zip(before, after, strict=True):
        assert new == pytest.approx(old, abs=0.01), 'within a period, a 600th of the way'
    assert not user.set(smoothing=0.0)
    moved = scores(next_hypothesis(film, user))
    assert any(abs(moved[0][label] - score) > 0.02 for label, score in after[0].items())


def test_changed_thresholds_apply_to_open_events(film, user):
    assert not user.set(on_threshold=1.0, off_threshold=1.0)
    next_hypothesis(film, user)
    assert not user.events
    eager = {'minimum_duration': 0.0, 'minimum_gap': 0.0, 'ignored_labels': ['']}
    assert not user.set(on_threshold=0.0, off_threshold=0.0, **eager)
    next_hypothesis(film, user)
    user.wait_for(lambda: len(user.events) == len(TASKS), 'a START of each task')
    assert not user.set(on_threshold=1.0, off_threshold=1.0)
    next_hypothesis(film, user)
    user.wait_for(lambda: len(user.events) == 2 * len(TASKS), 'an END of each task')
    assert not user.set(on_threshold=0.0, off_threshold=0.0)
    next_hypothesis(film, user)
    user.wait_for(lambda: len(user.events) == 3 * len(TASKS), 'a START of each task')
    # The events of an inactive task end.
    assert not user.set(active_tasks=['verb'])
    user.events.clear()
    next_hypothesis(film, user)
    user.wait_for(lambda: len(user.events) >= 2, 'two ENDs')
    ended = {each.task for each in user.events if each.type == ActionEvent.END}
    assert {'action', 'object'} <= ended


def test_rejected_values_change_nothing(film, user):
    for values, reason in REJECTED:
        # With a valid change beside it, which must not take effect either.
        assert reason in user.set(**{'top_k': 1, **values}), values
    assert [len(task.labels) for task in next_hypothesis(film, user).tasks] == [3, 3, 3]
    assert not user.set(on_threshold=0.7)


def test_cameras_become_inactive_and_active(managed_node, user):
    topics = ['/left/image_raw', '/right/image_raw']
    managed_node(eager=True, cameras=['left', 'right'], image_topics=topics, stream_timeout=0.0)
    left, right = films = [user.film(topic) for topic in topics]
    user.activate(*topics)
    for film in films:
        film.show(4)
    user.wait_for(lambda: len(user.events) == 2 * len(TASKS), 'a START of each camera and task')
    user.events.clear()
    assert not user.set(active_cameras=['left'])
    # The inactive camera sends no more frames: its events must end without one.
    user.wait_for(lambda: len(user.events) == len(TASKS), 'an END of each task')
    assert {(each.camera, each.type) for each in user.events} == {('right', ActionEvent.END)}
    user.wait_for(lambda: not user.subscribed_as(topics[1]), 'the end of the subscription')
    status = user.wait_for_words('right', 'inactive: not in the parameter active_cameras')
    assert status.level == status.OK
    right.show(3)
    left.show()
    user.wait_for(lambda: len(user.hypotheses) == 3, 'the hypothesis of the left camera')
    assert user.hypotheses[-1].camera == 'left'
    assert not user.set(active_cameras=[''])
    user.wait_for(
        lambda: user.subscribed_as(topics[1]) == [ReliabilityPolicy.RELIABLE], 'the subscription'
    )
    user.wait_for(
        right.publisher.get_subscription_count, 'the publisher to match the subscription'
    )
    right.show(5)
    user.wait_for(
        lambda: user.hypotheses[-1].camera == 'right', 'a hypothesis of the right camera'
    )


def test_bundle_and_topic_change_at_next_configuration(film, user, orderless_bundle, capfd):
    assert not user.set(bundle=str(orderless_bundle.path), image_topics=['/other/image_raw'])
    assert 'bundle, image_topics: takes effect when the node is configured again' in (
        capfd.readouterr().err
    )
    hypothesis = next_hypothesis(film, user)
    assert hypothesis.model_id == user.models[-1].model_id != orderless_bundle.model_id
    # Deactivating and activating does not change that.
    assert user.change(Transition.TRANSITION_DEACTIVATE)
    assert user.change(Transition.TRANSITION_ACTIVATE)
    assert user.subscribed_as(TOPIC)
    assert user.change(Transition.TRANSITION_DEACTIVATE)
    assert user.change(Transition.TRANSITION_CLEANUP)
    other = user.film('/other/image_raw')
    user.activate('/other/image_raw')
    user.wait_for(lambda: user.models[-1].model_id == orderless_bundle.model_id, 'its description')
    user.hypotheses.clear()
    other.show(4)
    user.wait_for(lambda: user.hypotheses, 'a hypothesis of the other bundle')
    assert user.hypotheses[0].model_id == orderless_bundle.model_id


def test_set_parameters_sets_each_parameter_alone(film, user):
    from rclpy.parameter import Parameter
    from rclpy.parameter_client import AsyncParameterClient

    client = AsyncParameterClient(user.node, 'perception')
    wanted = [Parameter('on_threshold', value=0.3), Parameter('top_k', value=2)]
    future = client.set_parameters(wanted)
    user.wait_for(future.done, 'the response')
    rejected, accepted = future.result().results
    assert 'off_threshold=0.4 is above on_threshold=0.3' in rejected.reason
    assert accepted.successful
    assert len(next_hypothesis(film, user).tasks[0].labels) == 2
