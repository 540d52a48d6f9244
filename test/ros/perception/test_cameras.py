# SPDX-License-Identifier: Apache-2.0
"""Several cameras, namespaces, simulated time and quality of service of the real node."""

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage

from step_ros.msg import ActionEvent
from step_ros.ros.conversion import to_nanoseconds, to_time

LEFT, RIGHT = '/left/image_raw', '/right/image_raw'
TASKS = ['action', 'verb', 'object']
SECOND = 10**9


def scores(hypothesis, task=0):
    message = hypothesis.tasks[task]
    return dict(zip(message.labels, message.scores, strict=True))


def activate_both(managed_node, user, **parameters):
    managed_node(
        eager=True,
        cameras=['left', 'right'],
        image_topics=[LEFT, RIGHT],
        top_k=1000,
        **parameters,
    )
    films = user.film(LEFT), user.film(RIGHT, seed=3)
    user.activate(LEFT, RIGHT)
    return films


def test_fused_hypotheses_have_mean_scores(managed_node, user):
    left, right = activate_both(managed_node, user)
    for _ in range(6):
        left.show()
        right.show()
    user.wait_for(lambda: len(user.hypotheses) == 6, 'three hypotheses of each camera')
    alone = {(each.camera, to_nanoseconds(each.header.stamp)): each for each in user.hypotheses}
    assert user.change(Transition.TRANSITION_DEACTIVATE)
    assert user.change(Transition.TRANSITION_CLEANUP)
    assert not user.set(fusion='mean')
    user.hypotheses.clear()
    user.events.clear()
    user.activate(LEFT, RIGHT)
    for film in (left, right):
        film.stamp_ns -= 6 * film.PERIOD_NS
    for expected in (0, 0, 0, 1, 2, 3):
        left.show()
        right.show()
        # Wait, or all pictures of one camera may arrive before those of the other.
        user.wait_for(lambda count=expected: len(user.hypotheses) == count, 'the fused hypothesis')
    for message in user.hypotheses:
        assert message.camera == 'fused'
        stamp_ns = to_nanoseconds(message.header.stamp)
        views = [alone[camera, stamp_ns] for camera in ('left', 'right')]
        for task in range(len(TASKS)):
            for label, score in scores(message, task).items():
                mean = np.mean([scores(view, task)[label] for view in views])
                assert score == pytest.approx(mean, abs=1e-4)
    assert {event.camera for event in user.events} == {'fused'}
    assert len(user.hypotheses) == 3


def test_silent_camera_does_not_block_fusion(managed_node, user):
    left, _ = activate_both(managed_node, user, fusion='mean', stream_timeout=0.3)
    left.show(4)
    left.show(8)
    user.wait_for(lambda: len(user.hypotheses) >= 3, 'hypotheses of the left camera')
    assert {each.camera for each in user.hypotheses} == {'fused'}
    # One lost camera of two ends no event; two lost cameras end all.
    user.wait_for(lambda: len(user.events) >= len(TASKS), 'events')
    starts = {event.task for event in user.events if event.type == event.START}
    assert starts == set(TASKS)

    def ended():
        last = {event.task: event.type for event in user.events}
        return set(last.values()) == {event.END for event in user.events}

    user.wait_for(ended, 'the end of every event')


# Names.


def test_two_robots_share_a_machine(managed_node, user_of, tiny_bundle):
    users = [user_of(f'/robot{number}/perception') for number in (1, 2)]
    films = []
    for number, user in enumerate(users, 1):
        managed_node(
            arguments=['-r', f'__ns:=/robot{number}'],
            eager=True,
            image_topics=['camera/image_raw'],
        )
        films.append(user.film(f'/robot{number}/camera/image_raw', seed=number))
        user.activate(f'/robot{number}/camera/image_raw')
    films[0].show(4)
    users[0].wait_for(lambda: len(users[0].events) == len(TASKS), 'its events')
    users[0].wait_for_words('node', 'active')
    users[1].wait_for_words('camera', 'no frame received yet')
    assert users[0].models
    assert not users[1].hypotheses
    assert not users[1].events
    films[1].show(4)
    users[1].wait_for(lambda: users[1].hypotheses, 'the hypothesis of the other robot')
    assert len(users[0].hypotheses) == 1
    names = {
        name
        for name, _ in users[0].node.get_publisher_names_and_types_by_node('perception', '/robot1')
    }
    shared = {'/diagnostics', '/parameter_events', '/rosout'}
    assert all(name.startswith('/robot1/perception/') for name in names - shared)


def test_topics_are_remapped(managed_node, user_of):
    user = user_of('/perception')
    managed_node(
        arguments=['-r', 'camera/image_raw:=/d435/color', '-r', '~/events:=/cell/events'],
        eager=True,
        image_topics=['camera/image_raw'],
    )
    events = []
    user.node.create_subscription(ActionEvent, '/cell/events', events.append, 50)
    film = user.film('/d435/color')
    user.activate('/d435/color')
    film.show(4)
    user.wait_for(lambda: len(events) == len(TASKS), 'a START of each task')
    assert user.hypotheses
    assert not user.events


# Simulated time.


class SimulatedTime:
    """A publisher of simulated time on `/clock`."""

    def __init__(self, user):
        self.user = user
        self.now_ns = 1000 * SECOND
        self._publisher = user.node.create_publisher(Clock, '/clock', 10)

    def step(self, seconds=0.0):
        self.now_ns += round(seconds * SECOND)
        self._publisher.publish(Clock(clock=to_time(self.now_ns)))

    def wait_for_node(self, node):
        """Publish until the node has received the time."""

        def known():
            self.step()
            return node.get_clock().now().nanoseconds == self.now_ns

        self.user.wait_for(known, 'the node to receive the time')


def test_timeouts_follow_simulated_time(managed_node, user):
    from rclpy.action import ActionClient

    from step_ros.action import WaitForAction
    from step_ros.ros.conversion import to_duration

    node = managed_node(eager=True, use_sim_time=True, stream_timeout=5.0)
    clock = SimulatedTime(user)
    clock.wait_for_node(node)
    film = user.film(begin_ns=clock.now_ns)
    user.activate('/camera/image_raw')
    assert to_nanoseconds(user.models[-1].stamp) == clock.now_ns
    film.show(4)
    user.wait_for(lambda: len(user.events) == len(TASKS), 'a START of each task')
    status = user.wait_for_words('camera', 'window 4/4')
    ages = [each.value for each in status.values if each.key == 'stamp_age_ms']
    assert ages == ['-300'], 'the newest frame is three periods ahead of the clock'
    client = user.make(
        lambda: ActionClient(user.node, WaitForAction, '/perception/wait_for_action')
    )
    assert client.wait_for_server(20.0)
    feedback = []
    goal = WaitForAction.Goal(labels=['open'], camera='camera', timeout=to_duration(3 * SECOND))
    goal.minimum_duration = to_duration(100 * SECOND)
    sent = client.send_goal_async(goal, feedback_callback=feedback.append)
    user.wait_for(sent.done, 'the goal to be accepted')
    result = sent.result().get_result_async()
    user.wait_for(lambda: len(feedback) > 6, 'more than half a second to pass')
    assert not result.done(), 'time stands still'
    assert to_nanoseconds(feedback[-1].feedback.waited) == 0
    clock.step(3.0)
    user.wait_for(result.done, 'the timeout')
    assert result.result().result.reason == WaitForAction.Result.TIMEOUT
    assert len(user.events) == len(TASKS), 'the camera is not lost yet'
    clock.step(3.0)
    user.wait_for(lambda: len(user.events) == 2 * len(TASKS), 'the end of every event')


# Quality of service.


def test_quality_of_service_can_be_overridden(managed_node, user):
    name = 'qos_overrides./{}.{}.depth'.format
    node = managed_node(
        **{
            name('camera/image_raw', 'subscription'): 3,
            name('perception/hypotheses', 'publisher'): 77,
            'qos_overrides./perception/events.publisher.reliability': 'best_effort',
        }
    )
    user.film()
    user.activate('/camera/image_raw')
    for topic, kind, depth in (
        ('camera/image_raw', 'subscription', 3),
        ('perception/hypotheses', 'publisher', 77),
    ):
        assert node.get_parameter(name(topic, kind)).value == depth
    # Other nodes do not see the depth, but the reliability.
    (events,) = user.node.get_publishers_info_by_topic('/perception/events')
    assert events.qos_profile.reliability.name == 'BEST_EFFORT'
    (images,) = [each for each in node.subscriptions if each.topic_name == '/camera/image_raw']
    assert images.qos_profile.depth == 3


def test_compressed_cameras_are_fused_with_raw_ones(managed_node, user):
    topics = [LEFT, RIGHT + '/compressed']
    managed_node(cameras=['left', 'right'], image_topics=topics, fusion='mean')
    films = [user.film(topics[0]), user.film(topics[1], CompressedImage)]
    user.activate(*topics)
    for _ in range(4):
        for film in films:
            film.show()
    user.wait_for(lambda: user.hypotheses, 'a hypothesis')
    assert user.hypotheses[0].camera == 'fused'
