# SPDX-License-Identifier: Apache-2.0
"""An interrupted example leaves no goal at the server, however slow its acknowledgement."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros

EXAMPLES = Path(__file__).parents[2] / 'examples'


@pytest.fixture
def example():
    pytest.importorskip('py_trees', reason='the behaviour tree needs py_trees')
    spec = importlib.util.spec_from_file_location('behaviour_tree', EXAMPLES / 'behaviour_tree.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def slow_server(node_side):
    """A server that acknowledges a goal only when the event `acknowledge` is set."""
    from rclpy.action import ActionServer, CancelResponse, GoalResponse

    from step_ros.action import WaitForAction

    side = node_side('perception')
    side.acknowledge, side.goals = threading.Event(), []

    def on_goal(_):
        side.acknowledge.wait(20)
        return GoalResponse.ACCEPT

    side.make(
        lambda: ActionServer(
            side.node,
            WaitForAction,
            '~/wait_for_action',
            execute_callback=lambda _: WaitForAction.Result(),
            goal_callback=on_goal,
            handle_accepted_callback=side.goals.append,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
    )
    yield side
    side.acknowledge.set()


def test_interrupted_before_the_acknowledgement_the_goal_is_canceled(
    example, slow_server, node_side
):
    from py_trees.common import Status
    from rclpy.action import ActionClient

    from step_ros.action import WaitForAction

    tree = node_side('tree')
    client = tree.make(
        lambda: ActionClient(tree.node, WaitForAction, '/perception/wait_for_action')
    )
    assert client.wait_for_server(20.0)
    wait = example.WaitForHuman('person', client=client, labels=['lay down cup'])
    wait.tick_once()
    assert wait.status == Status.RUNNING
    wait.stop(Status.INVALID)
    assert slow_server.goals == []
    slow_server.acknowledge.set()
    tree.wait_for(lambda: slow_server.goals, 'the goal')
    tree.wait_for(lambda: slow_server.goals[0].is_cancel_requested, 'the cancellation')
    tree.wait_for(wait.canceling.done, 'the answer of the server')


@pytest.mark.parametrize('name', ['behaviour_tree', 'hand_over'])
@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_stopped_example_cancels_its_goal(name, stop, slow_server):
    if name == 'behaviour_tree':
        pytest.importorskip('py_trees', reason='the behaviour tree needs py_trees')
    from step_ros.msg import ModelInfo, TaskInfo
    from step_ros.ros.qos import LATCHED

    slow_server.acknowledge.set()
    latched = slow_server.node.create_publisher(ModelInfo, '/perception/model_info', LATCHED)
    latched.publish(ModelInfo(tasks=[TaskInfo(task='action', labels=['lay down cup'])]))
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / f'{name}.py')], env=dict(os.environ), text=True
    )
    try:
        slow_server.wait_for(lambda: slow_server.goals, 'the goal', 60.0)
        process.send_signal(stop)
        slow_server.wait_for(lambda: slow_server.goals[0].is_cancel_requested, 'the cancellation')
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
