"""Nodes as programs: a signal ends them, whatever they are doing."""

import signal
import subprocess
import sys

import pytest

# A node that hears of no signal, as while a model is being compiled.
DEAF = """
import time
from rclpy.node import Node
from step_ros.ros.runner import leave, run_node
def run(node, stop):
    print('runs', flush=True)
    while True:
        time.sleep(100)
leave(run_node('deaf', lambda: Node('deaf'), run))
"""


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_a_node_that_does_not_end_by_itself_is_ended(how):
    command = [sys.executable, '-c', DEAF]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout.readline() == b'runs\n'
        process.send_signal(how)
        assert process.communicate(timeout=20) == (b'', None)
    assert process.returncode == 0
