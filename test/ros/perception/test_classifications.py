# SPDX-License-Identifier: Apache-2.0
"""`vision_msgs/Classification` in addition to our messages, if `vision_msgs` is installed."""

import importlib.util

import pytest

from step_ros.ros.conversion import to_nanoseconds

TOPIC = '/camera/image_raw'
INSTALLED = importlib.util.find_spec('vision_msgs') is not None


@pytest.mark.skipif(not INSTALLED, reason='vision_msgs is not installed')
def test_each_task_has_a_classification_topic(managed_node, user):
    from vision_msgs.msg import Classification

    managed_node(top_k=2)
    film = user.film()
    received = {task: [] for task in ('action', 'verb', 'object')}
    for task, messages in received.items():
        topic = f'/perception/classifications/{task}'
        user.node.create_subscription(Classification, topic, messages.append, 10)
    user.activate(TOPIC)

    def complete():
        film.show()
        return all(received.values())

    user.wait_for(complete, 'a classification of each task')
    by_stamp = {to_nanoseconds(each.header.stamp): each for each in user.hypotheses}
    for index, messages in enumerate(received.values()):
        first = messages[0]
        ours = by_stamp[to_nanoseconds(first.header.stamp)]
        assert first.header.frame_id == ours.header.frame_id == 'optical'
        assert [each.class_id for each in first.results] == list(ours.tasks[index].labels)
        assert [each.score for each in first.results] == pytest.approx(ours.tasks[index].scores)


@pytest.mark.skipif(INSTALLED, reason='vision_msgs is installed')
def test_node_works_without_vision_msgs(managed_node, user):
    node = managed_node()
    film = user.film()
    user.activate(TOPIC)
    film.show(4)
    user.wait_for(lambda: user.hypotheses, 'a hypothesis')
    topics = {publisher.topic_name for publisher in node.publishers}
    assert '/perception/hypotheses' in topics
    assert not [name for name in topics if 'classifications' in name]
