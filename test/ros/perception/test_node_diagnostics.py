"""What is wrong, in words on `/diagnostics`: the topics of the real node, and its own end."""

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


def test_each_camera_says_why_nothing_comes(managed_node, user):
    topics = ['/nobody/image_raw', '/packed/image_raw', '/lossy/image_raw', '/sound/image_raw']
    names = ['nobody', 'packed', 'lossy', 'sound']
    managed_node(cameras=names, image_topics=topics, reliability='reliable')
    user.publisher(topics[1], CompressedImage)
    user.publisher(topics[2], reliability=ReliabilityPolicy.BEST_EFFORT)
    user.publisher(topics[3])
    activate(user)
    for name, words in zip(
        names,
        (
            'no frame received yet: no publisher on topic /nobody/image_raw',
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
    assert user.status('sound').message == 'no frame received yet'
    node = user.status('node')
    assert (node.level, node.message) == (node.OK, 'active')


def test_rate_stamp_age_and_model_are_told(managed_node, user):
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
    said = values(user.status('camera'))
    assert 1 < float(said['rate_hz']) < 1000
    assert -60_000 < int(said['stamp_age_ms']) < 10_000
    assert said['window'] == '4/4'
    model = values(user.status('model'))
    assert model['model_id'] == user.models[-1].model_id
    assert model['runtime'] == user.models[-1].runtime
    assert float(model['encode_ms']) > 0
    assert to_nanoseconds(user.models[-1].stamp) >= now_ns


# ---- a node that breaks


def test_a_worker_that_crashes_leaves_a_node_that_can_go_on(managed_node, user, monkeypatch):
    from step_ros.ros.perception import publishers

    node = managed_node(eager=True)
    film = user.film()
    user.activate(TOPIC)
    film.show(4)
    user.wait_for(lambda: len(user.events) == 3, 'a START of each task')

    def broken(*arguments, **options):
        raise OverflowError('too much to say')

    with monkeypatch.context() as patch:
        patch.setattr(publishers, 'hypothesis_message', broken)
        film.show()
        reason = 'the worker stopped with OverflowError: too much to say'
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


def test_a_transition_that_raises_says_why(managed_node, user, monkeypatch):
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
    # What had begun until then is gone.
    user.wait_for(lambda: not user.node.get_publishers_info_by_topic('/perception/overlay'), 'it')
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
def test_what_does_not_fit_is_refused_in_words(managed_node, user, capfd, parameters, reason):
    managed_node(**parameters)
    configured = user.change(Transition.TRANSITION_CONFIGURE)
    assert not (configured and user.change(Transition.TRANSITION_ACTIVATE))
    said = capfd.readouterr().err
    assert reason in said
    assert 'Traceback' not in said
    expected = State.PRIMARY_STATE_INACTIVE if configured else State.PRIMARY_STATE_UNCONFIGURED
    assert user.state == expected
    assert not user.subscribed_as(TOPIC)
