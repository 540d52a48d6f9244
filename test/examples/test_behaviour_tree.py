# SPDX-License-Identifier: Apache-2.0
"""The behaviour of the example tree against a server that is slow to acknowledge."""

import importlib.util
import threading
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'behaviour_tree.py'


@pytest.fixture
def example():
    pytest.importorskip('py_trees', reason='the behaviour tree needs py_trees')
    spec = importlib.util.spec_from_file_location('behaviour_tree', EXAMPLE)
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
