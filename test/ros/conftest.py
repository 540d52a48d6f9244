"""Fixtures for tests over real DDS: a domain of their own, a node to listen with, processes."""

import os
import signal
import subprocess
import sys
import time

import pytest

# Before any `rclpy.init`: nothing leaves this machine, and no other test run is heard. Domains
# above 101 may take ports that Linux gives to others.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)

WAIT = 20.0


class Ros:
    """A ROS context with a node, and what tests do with it.

    Attributes:
        node: To subscribe, publish and call with.
    """

    def __init__(self, context):
        # Imported here: most tests in this folder need no ROS graph.
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self.context = context
        self.node = Node('test', context=context)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)

    def listen(self, kind, topic, qos):
        """Subscribe; the list returned grows with each message while spinning."""
        messages = []
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def spin(self, seconds):
        """Take messages for some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def spin_until(self, condition, timeout=WAIT):
        """Take messages until a condition holds; fail when it does not in time."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f'waited {timeout} s in vain'
            self._executor.spin_once(timeout_sec=0.05)

    def spin_for(self, future, timeout=WAIT):
        """Return the result of a future, for example of a service call."""
        self.spin_until(future.done, timeout)
        return future.result()

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()


class NodeProcess:
    """A node of this package in a process of its own, with its output."""

    def __init__(self, module, ros_arguments, environment):
        self._process = subprocess.Popen(
            [sys.executable, '-m', f'step_ros.ros.{module}', '--ros-args', *ros_arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        self.output = ''

    @property
    def running(self):
        return self._process.poll() is None

    def end(self, how=signal.SIGINT, timeout=WAIT):
        """Send a signal and return the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self.wait(timeout)

    def wait(self, timeout=WAIT):
        """Return the exit code once it ends by itself; `output` then holds what it said."""
        try:
            self.output += self._process.communicate(timeout=timeout)[0] or ''
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.output += self._process.communicate()[0] or ''
            pytest.fail(f'did not end within {timeout} s; it said:\n{self.output}')
        return self._process.returncode


@pytest.fixture
def ros():
    """Give a `Ros` in a context of its own."""
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context)
    helper = Ros(context)
    yield helper
    helper.close()
    rclpy.try_shutdown(context=context)


@pytest.fixture
def start_node():
    """Start nodes: `start_node(module, parameter=value, ...)`; all end with the test.

    `remap` takes remappings and `environment` extra variables, both as dictionaries.
    """
    import yaml

    started = []

    def start(module, *, remap=None, environment=None, **parameters):
        arguments = []
        for source, target in (remap or {}).items():
            arguments += ['-r', f'{source}:={target}']
        for name, value in parameters.items():
            text = yaml.safe_dump(value, default_flow_style=True, width=float('inf'))
            text = text.removesuffix('\n').removesuffix('...').strip()
            arguments += ['-p', f'{name}:={text}']
        started.append(NodeProcess(module, arguments, environment or {}))
        return started[-1]

    yield start
    for process in started:
        process.end(signal.SIGKILL)
