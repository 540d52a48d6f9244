# SPDX-License-Identifier: Apache-2.0
"""`/diagnostics` of the real node: silent cameras, rates, crashes and bad parameters."""

import pytest
from lifecycle_msgs.msg import State, Transition
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage

from step_ros.ros.conversion import to_nanoseconds

TOPIC = '/camera/image_raw'


def values(status):
    return {each.key: each.value for each in status.values}


def activate(user):
    assert user.change(Transition.TRANSITION_CONFIGURE)
    assert user.change(Transition.TRANSITION_ACTIVATE)


def test_camera_status_gives_the_reason_of_silence(managed_node, user):
    topics = ['/absent/image_raw', '/packed/image_raw', '/lossy/image_raw', '/good/image_raw']
    names = ['absent', 'packed', 'lossy', 'good']
    managed_node(cameras=names, image_topics=topics, reliability='reliable')
    user.publisher(topics[1], CompressedImage)
    user.publisher(topics[2], reliability=ReliabilityPolicy.BEST_EFFORT)
    user.publisher(topics[3])
    activate(user)
    for name, words in zip(
        names,
        (
            'no frame received yet: no publisher on topic /absent/image_raw',
            'topic /packed/image_raw carries sensor_msgs/msg/CompressedImage, not '
            'sensor_msgs/msg/Image; check the parameters image_topics and transport',
            'topic /lossy/image_raw is published as best effort, incompatible with '
            "reliability=reliable; set it to 'auto'",
            'no frame received yet',
        ),
        strict=True,
    ):
        status = user.wait_for_words(name, words)
        assert status.level == status.WARN
    assert user.status('good').message == 'no frame received yet'
    node = user.status('node')
    assert (node.level, node.message) == (node.OK, 'active')


def test_diagnostics_give_rate_stamp_age_and_model(managed_node, user):
    node = managed_node()
    now_ns = node.get_clock().now().nanoseconds
    film = user.film(begin_ns=now_ns - 10 * 10**9)
    user.activate(TOPIC)
    film.show(4)
    user.wait_for(lambda: len(user.hypotheses) == 1, 'a hypothesis')

    def rated():
        film.show()
        status = user.status('camera')
        return status is not None and values(status).get('rate_hz', '0')[0] in '123456789'

    user.wait_for(rated, 'a rate')
    found = values(user.status('camera'))
    assert 1 < float(found['rate_hz']) < 1000
    assert -60_000 < int(found['stamp_age_ms']) < 10_000
    assert found['window'] == '4/4'
    model = values(user.status('model'))
    assert model['model_id'] == user.models[-1].model_id
    assert model['runtime'] == user.models[-1].runtime
    assert float(model['encode_ms']) > 0
    assert to_nanoseconds(user.models[-1].stamp) >= now_ns


# Failures of the node.


def test_node_can_be_activated_after_a_worker_crash(managed_node, user, monkeypatch):
    from step_ros.ros.perception import publishers

    node = managed_node(eager=True)
    film = user.film()
    user.activate(TOPIC)
    film.show(4)
    user.wait_for(lambda: len(user.events) == 3, 'a START of each task')

    def broken(*arguments, **options):
        raise OverflowError('too many labels')

    with monkeypatch.context() as patch:
        patch.setattr(publishers, 'hypothesis_message', broken)
        film.show()
        reason = 'the worker stopped with OverflowError: too many labels'
        status = user.wait_for_words('node', reason)
    assert status.level == status.ERROR
    assert status.message.endswith('configure and activate the node again')
    assert values(status)['state'] == 'unconfigured'
    assert user.state == State.PRIMARY_STATE_UNCONFIGURED
    user.wait_for(lambda: len(user.events) == 6, 'an END of each task')
    assert not node.get_publishers_info_by_topic('/perception/overlay')
    user.wait_for(lambda: not user.subscribed_as(TOPIC), 'the end of the subscription')
    user.hypotheses.clear()
    user.activate(TOPIC)
    film.show(4)
    user.wait_for(lambda: user.hypotheses, 'a hypothesis')
    status = user.wait_for_words('node', 'active')
    assert status.level == status.OK


def test_failed_transition_gives_the_reason(managed_node, user, monkeypatch):
    from step_ros.ros.perception import pipeline

    managed_node()
    assert user.change(Transition.TRANSITION_CONFIGURE)

    def broken(*arguments, **options):
        raise MemoryError('no room')

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, 'ImageSubscriptions', broken)
        user.change(Transition.TRANSITION_ACTIVATE)
    status = user.wait_for_words('node', 'on_activate: MemoryError: no room')
    assert status.level == status.ERROR
    assert user.state == State.PRIMARY_STATE_UNCONFIGURED
    # The parts that had started are closed.
    user.wait_for(
        lambda: not user.node.get_publishers_info_by_topic('/perception/overlay'),
        'the end of the overlay topic',
    )
    user.activate()
    assert user.state == State.PRIMARY_STATE_ACTIVE


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({'fusion': 'mean'}, "fusion=mean with cameras=['camera']: expected two or more"),
        ({'region_topics': ['/a', '/b']}, 'expected one topic for each camera'),
        ({'region_topics': ['/not a topic']}, "parameter region_topics: '/not a topic': Invalid"),
        ({'overlay_attention': 'smell'}, "overlay_attention='smell'; expected one of: action"),
        ({'max_gap': 0.01}, 'gap'),
        ({'image_topics': ['/not a topic']}, "parameter image_topics: '/not a topic': Invalid"),
        ({'cameras': ['fused']}, "parameter cameras=['fused']: the name 'fused' is reserved"),
        ({'active_cameras': ['rear']}, "active_cameras=['rear']: the cameras are camera"),
        ({'active_tasks': ['smell']}, "active_tasks=['smell']: the tasks of tiny@"),
    ],
)
def test_contradicting_parameters_are_rejected_with_reason(
    managed_node, user, capfd, parameters, reason
):
    managed_node(**parameters)
    configured = user.change(Transition.TRANSITION_CONFIGURE)
    assert not (configured and user.change(Transition.TRANSITION_ACTIVATE))
    found = capfd.readouterr().err
    assert reason in found
    assert 'Traceback' not in found
    expected = State.PRIMARY_STATE_INACTIVE if configured else State.PRIMARY_STATE_UNCONFIGURED
    assert user.state == expected
    assert not user.subscribed_as(TOPIC)
