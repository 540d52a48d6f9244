# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes: suspended, resumed, stopped."""

import threading
import time
from pathlib import Path

import pytest

from step_ros.ros.benchmarks.publisher import PublisherSettings
from step_ros.ros.processes import NodeProcess, wait_until

pytestmark = pytest.mark.skipif(not Path('/proc/self/status').is_file(), reason='needs Linux')


@pytest.fixture
def node(tmp_path):
    """A running node that has nothing to do."""
    settings = PublisherSettings(topics=['/nobody'], rate=1.0, width=8, height=8)
    process = NodeProcess(
        'benchmark_publisher', log=tmp_path / 'node.log', parameters=settings.parameters()
    )
    yield process
    process.stop()


def state(process):
    """Return the letter of the process state: `T` if it is suspended."""
    for line in Path(f'/proc/{process.pid}/status').read_text().splitlines():
        if line.startswith('State:'):
            return line.split()[1]
    raise AssertionError('no state')


def test_held_node_is_suspended_and_resumes(node):
    holding = threading.Thread(target=node.hold, args=(0.5,))
    started = time.monotonic()
    holding.start()
    wait_until(lambda: state(node) == 'T', [node], 'the suspension', seconds=0.45)
    holding.join()
    assert time.monotonic() - started >= 0.5
    wait_until(lambda: state(node) != 'T', [node], 'its end', seconds=5.0)
    node.check()


def test_interrupted_hold_resumes_the_node(node, monkeypatch):
    suspended = []

    def interrupted(seconds):
        deadline = time.monotonic() + 5.0
        while not suspended and time.monotonic() < deadline:
            if state(node) == 'T':
                suspended.append(True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(time, 'sleep', interrupted)
        with pytest.raises(KeyboardInterrupt):
            node.hold(60.0)
    assert suspended
    wait_until(lambda: state(node) != 'T', [node], 'its end', seconds=5.0)
