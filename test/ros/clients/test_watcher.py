# SPDX-License-Identifier: Apache-2.0
"""The watcher finds the publishers of hypotheses and follows one of them, over real DDS."""

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition

from step_ros.msg import ActionEvent, ActionHypothesis, TaskHypothesis
from step_ros.ros.clients.watcher import Source, Watcher, choose_source
from step_ros.ros.conversion import to_time

HYPOTHESES = '/perception/hypotheses'
TEST = Source(topic=HYPOTHESES, node='/test', events='/perception/events')


def hypothesis(second=1, camera='front'):
    task = TaskHypothesis(
        task='action',
        labels=['open drawer', 'close drawer'],
        scores=[0.75, 0.25],
        counterpart='close drawer',
        counterpart_score=0.25,
        order_evidence=0.5,
    )
    message = ActionHypothesis(camera=camera, model_id='tiny@0', tasks=[task])
    message.header.stamp = to_time(second * 10**9)
    return message


def event(kind, label='open drawer', task='action'):
    return ActionEvent(camera='front', type=kind, task=task, label=label, score=0.9)


@pytest.fixture
def watcher():
    made = Watcher()
    yield made
    made.close()


@pytest.fixture
def publishers(ros, watcher):
    """Make publishers of hypotheses, events and diagnostics that the watcher follows."""
    made = [
        ros.node.create_publisher(kind, topic, 10)
        for kind, topic in (
            (ActionHypothesis, HYPOTHESES),
            (ActionEvent, '/perception/events'),
            (DiagnosticArray, '/diagnostics'),
        )
    ]
    ros.spin_until(lambda: watcher.find() == [TEST])
    watcher.listen(TEST)
    for publisher in made:
        ros.spin_until(lambda publisher=publisher: publisher.get_subscription_count() == 1)
    return made


def test_a_topic_without_a_publisher_is_no_source(ros, watcher):
    ros.listen(ActionHypothesis, HYPOTHESES, 10)
    ros.spin_until(lambda: HYPOTHESES in dict(watcher.node.get_topic_names_and_types()))
    assert watcher.find() == []


def test_events_are_those_of_the_hypotheses_node(ros, watcher):
    import rclpy

    camera = rclpy.create_node('camera', context=ros.context)
    camera.create_publisher(ActionEvent, '/camera/truth', 10)
    ros.node.create_publisher(ActionHypothesis, '/left/what_happens', 10)
    ros.spin_until(lambda: len(watcher.find()) == 1)
    found = Source(topic='/left/what_happens', node='/test')
    assert watcher.find() == [found]
    ros.node.create_publisher(ActionEvent, '/left/remapped', 10)
    ros.spin_until(lambda: watcher.find()[0].events == '/left/remapped')
    camera.destroy_node()


def test_hypotheses_keep_their_order_and_the_newest_is_kept(ros, watcher, publishers):
    hypotheses, _, _ = publishers
    for second in (1, 2, 3):
        hypotheses.publish(hypothesis(second))
    hypotheses.publish(hypothesis(9, camera='side'))
    ros.spin_until(lambda: 'side' in watcher.cameras())
    assert [message.header.stamp.sec for message in watcher.take()] == [1, 2, 3, 9]
    assert watcher.take() == []
    cameras = watcher.cameras()
    assert list(cameras) == ['front', 'side']
    assert cameras['front'].newest.header.stamp.sec == 3
    assert cameras['front'].rate > 0
    assert cameras['side'].rate == 0


def test_an_event_is_open_from_start_to_end(ros, watcher, publishers):
    _, events, _ = publishers

    def open_events():
        state = watcher.cameras().get('front')
        return None if state is None else state.open_events

    events.publish(event(ActionEvent.START))
    events.publish(event(ActionEvent.START, 'open', 'verb'))
    ros.spin_until(lambda: open_events() == {'action': 'open drawer', 'verb': 'open'})
    events.publish(event(ActionEvent.END))
    ros.spin_until(lambda: open_events() == {'verb': 'open'})


def test_only_the_nodes_own_diagnostics_are_kept(ros, watcher, publishers):
    _, _, diagnostics = publishers
    for name in ('/perception: front', '/test: model', '/other: motor', 'motor'):
        for level in (DiagnosticStatus.OK, DiagnosticStatus.WARN):
            status = DiagnosticStatus(name=name, level=level)
            diagnostics.publish(DiagnosticArray(status=[status]))
    status = DiagnosticStatus(name='/perception: end')
    diagnostics.publish(DiagnosticArray(status=[status]))
    ros.spin_until(lambda: len(watcher.diagnostics()) == 3)
    assert {(each.name, each.level) for each in watcher.diagnostics()} == {
        ('/perception: front', DiagnosticStatus.WARN),
        ('/test: model', DiagnosticStatus.WARN),
        ('/perception: end', DiagnosticStatus.OK),
    }


def test_silence_names_a_publisher_that_has_gone(ros, watcher):
    publisher = ros.node.create_publisher(ActionHypothesis, HYPOTHESES, 10)
    ros.spin_until(lambda: len(watcher.find()) == 1)
    assert watcher.silence() == ''
    watcher.listen(watcher.find()[0])
    assert watcher.silence() == ''
    ros.node.destroy_publisher(publisher)
    ros.spin_until(lambda: 'no publisher on /perception/hypotheses' in watcher.silence())


def test_silence_names_the_command_for_an_inactive_node(managed_node, user, watcher):
    managed_node()
    user.wait_for(lambda: len(watcher.find()) == 1, 'the node')
    watcher.listen(watcher.find()[0])
    user.wait_for(lambda: 'lifecycle set /perception configure' in watcher.silence(), 'a hint')
    assert user.change(Transition.TRANSITION_CONFIGURE)
    user.wait_for(lambda: 'lifecycle set /perception activate' in watcher.silence(), 'a hint')
    assert user.change(Transition.TRANSITION_ACTIVATE)
    user.wait_for(lambda: watcher.silence() == '', 'no hint')


def test_a_best_effort_publisher_is_heard(ros, watcher):
    from rclpy.qos import qos_profile_sensor_data

    made = [
        ros.node.create_publisher(kind, topic, qos_profile_sensor_data)
        for kind, topic in (
            (ActionHypothesis, HYPOTHESES),
            (ActionEvent, '/perception/events'),
            (DiagnosticArray, '/diagnostics'),
        )
    ]
    ros.spin_until(lambda: watcher.find() == [TEST])
    watcher.listen(TEST)
    messages = (
        hypothesis(),
        event(ActionEvent.START),
        DiagnosticArray(status=[DiagnosticStatus(name='/test: model')]),
    )

    def heard():
        for publisher, message in zip(made, messages, strict=True):
            publisher.publish(message)
        camera = watcher.cameras().get('front')
        return camera and camera.newest and camera.open_events and watcher.diagnostics()

    ros.spin_until(heard)


def test_a_publisher_that_returns_with_best_effort_is_heard(ros, watcher, publishers):
    from rclpy.qos import qos_profile_sensor_data

    hypotheses, _, _ = publishers
    hypotheses.publish(hypothesis(1))
    ros.spin_until(lambda: watcher.cameras())
    ros.node.destroy_publisher(hypotheses)
    again = ros.node.create_publisher(ActionHypothesis, HYPOTHESES, qos_profile_sensor_data)

    def heard():
        again.publish(hypothesis(2))
        return watcher.cameras()['front'].newest.header.stamp.sec == 2

    ros.spin_until(heard)


LEFT = Source(topic='/left/perception/hypotheses', node='/left/perception')
RIGHT = Source(topic='/right/perception/hypotheses', node='/right/perception')
BAG = Source(topic='/right/perception/hypotheses', node='/rosbag2_player')


@pytest.mark.parametrize(
    ('found', 'wanted', 'chosen'),
    [
        ([LEFT], '', LEFT),
        ([LEFT, RIGHT], '/right/perception', RIGHT),
        ([LEFT, RIGHT], 'right/perception', RIGHT),
        ([LEFT, RIGHT], '/right/perception/hypotheses', RIGHT),
        ([RIGHT, BAG], '/right/perception', RIGHT),
        ([LEFT, BAG], '/right/perception', BAG),
        ([RIGHT, BAG], '/rosbag2_player', BAG),
    ],
)
def test_a_source_is_chosen_by_node_or_topic(found, wanted, chosen):
    assert choose_source(found, wanted) == (chosen, '')


@pytest.mark.parametrize(
    ('found', 'wanted', 'why'),
    [
        ([], '', 'no publisher of step_ros/msg/ActionHypothesis: is a perception node running'),
        ([], '/perception', 'no publisher on /perception/hypotheses: is the node running'),
        ([LEFT], '/perception', 'There are: /left/perception'),
        ([LEFT, RIGHT], '', '--node /right/perception '),
        ([BAG, Source(topic='/a', node=BAG.node)], '', '--node /a '),
    ],
)
def test_without_a_choice_there_is_a_reason(found, wanted, why):
    source, reason = choose_source(found, wanted)
    assert source is None
    assert why in reason
