# SPDX-License-Identifier: Apache-2.0
"""Nodes as programs: a signal ends even a busy node."""

import signal
import subprocess
import sys

import pytest

# A node that ignores the stop event, as while a model is being compiled.
BUSY = """
import time
from rclpy.node import Node
from step_ros.ros.runner import leave, run_node
def run(node, stop):
    print('runs', flush=True)
    while True:
        time.sleep(100)
leave(run_node('busy', lambda: Node('busy'), run))
"""


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_busy_node_is_ended_after_the_grace_period(how):
    command = [sys.executable, '-c', BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout.readline() == b'runs\n'
        process.send_signal(how)
        assert process.communicate(timeout=20) == (b'', None)
    assert process.returncode == 0
