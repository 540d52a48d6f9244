# SPDX-License-Identifier: Apache-2.0
"""The executors: requirements that both of them must meet."""

import sys
import time

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from step_ros.ros.conversion import to_time
from step_ros.ros.executors import ExecutorError, create_executor

WAIT = 20.0
MS = 1_000_000


@pytest.fixture(params=['single', 'events'])
def executor(request):
    context = Context()
    rclpy.init(context=context)
    try:
        executor, which = create_executor(request.param, context=context)
    except ExecutorError as error:
        rclpy.try_shutdown(context=context)
        pytest.skip(str(error))
    assert which == f'{request.param}, as requested'
    yield executor, context
    executor.shutdown()
    rclpy.try_shutdown(context=context)


def spin_until(executor, condition):
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f'the condition did not hold within {WAIT} s'
        executor.spin_once(timeout_sec=0.05)


def test_callbacks_may_replace_subscriptions(executor):
    # As for a camera whose publisher changes its reliability.
    executor, context = executor
    node, received = Node('node', context=context), []
    executor.add_node(node)
    publisher = node.create_publisher(Header, '/received', 10)
    first = node.create_subscription(Header, '/received', lambda _: received.append('first'), 10)

    def exchange():
        node.destroy_timer(timer)
        node.destroy_subscription(first)
        node.create_subscription(Header, '/received', lambda _: received.append('second'), 10)

    ticker = node.create_timer(0.02, lambda: publisher.publish(Header()))
    spin_until(executor, lambda: 'first' in received)
    timer = node.create_timer(0.05, exchange)
    spin_until(executor, lambda: 'second' in received)
    received.clear()
    spin_until(executor, lambda: len(received) == 5)
    assert set(received) == {'second'}
    node.destroy_timer(ticker)
    executor.remove_node(node)
    node.destroy_node()


def test_timers_follow_simulated_time_across_jumps(executor):
    executor, context = executor
    simulated = [Parameter('use_sim_time', value=True)]
    node = Node('node', context=context, parameter_overrides=simulated)
    executor.add_node(node)
    clock, ticks = node.create_publisher(Clock, '/clock', 10), []
    node.create_timer(1.0, lambda: ticks.append(node.get_clock().now().nanoseconds))
    for begin in (100, 50, 500):
        ticks.clear()
        now_ns, until_ns = begin * 1000 * MS, (begin + 5) * 1000 * MS
        # After a jump back, the next tick comes within one period.
        while not ticks or ticks[-1] < until_ns:
            clock.publish(Clock(clock=to_time(now_ns)))
            spin_until(executor, lambda n=now_ns: node.get_clock().now().nanoseconds == n)
            executor.spin_once(timeout_sec=0)
            now_ns += 250 * MS
            assert now_ns < until_ns + 5000 * MS, 'no tick'
        assert len(ticks) >= 3
        assert ticks == sorted(ticks)
    executor.remove_node(node)
    node.destroy_node()


def test_entities_of_a_session_have_no_qos_events(managed_node, user):
    # With such events, rclpy's events executor may crash when entities are destroyed.
    node = managed_node()
    before = set(node.subscriptions), set(node.publishers)
    user.publisher('/camera/image_raw')
    user.activate('/camera/image_raw')
    after = set(node.subscriptions), set(node.publishers)
    created = (after[0] - before[0]) | (after[1] - before[1])
    assert '/camera/image_raw' in {each.topic_name for each in created}
    assert not [each.topic_name for each in created if each.event_handlers]


def test_single_executor_replaces_a_missing_events_executor(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rclpy.experimental', None)
    context = Context()
    rclpy.init(context=context)
    executor, which = create_executor('auto', context=context)
    assert isinstance(executor, SingleThreadedExecutor)
    assert which == 'single, because this rclpy has no events executor'
    with pytest.raises(ExecutorError, match="'auto' or 'single'"):
        create_executor('events', context=context)
    executor.shutdown()
    rclpy.try_shutdown(context=context)
