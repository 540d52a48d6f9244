"""Nodes as processes of their own: held up, going on, ended."""

import threading
import time
from pathlib import Path

import pytest

from step_ros.ros.benchmarks.publisher import PublisherSettings
from step_ros.ros.processes import NodeProcess, wait_until

pytestmark = pytest.mark.skipif(not Path('/proc/self/status').is_file(), reason='needs Linux')


@pytest.fixture
def node(tmp_path):
    """Run a node that has nothing to do."""
    settings = PublisherSettings(topics=['/nobody'], rate=1.0, width=8, height=8)
    process = NodeProcess(
        'benchmark_publisher', log=tmp_path / 'node.log', parameters=settings.parameters()
    )
    yield process
    process.stop()


def state(process):
    """Return the letter by which the system says what a process does: `T` if it stands still."""
    for line in Path(f'/proc/{process.pid}/status').read_text().splitlines():
        if line.startswith('State:'):
            return line.split()[1]
    raise AssertionError('no state')


def test_a_node_that_is_held_up_stands_still_and_then_goes_on(node):
    holding = threading.Thread(target=node.hold, args=(0.5,))
    begun = time.monotonic()
    holding.start()
    wait_until(lambda: state(node) == 'T', [node], 'the hold-up', seconds=0.45)
    holding.join()
    assert time.monotonic() - begun >= 0.5
    wait_until(lambda: state(node) != 'T', [node], 'the end of it', seconds=5.0)
    node.check()


def test_a_node_goes_on_when_holding_it_up_is_interrupted(node, monkeypatch):
    stood = []

    def interrupted(seconds):
        deadline = time.monotonic() + 5.0
        while not stood and time.monotonic() < deadline:
            if state(node) == 'T':
                stood.append(True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(time, 'sleep', interrupted)
        with pytest.raises(KeyboardInterrupt):
            node.hold(60.0)
    assert stood
    wait_until(lambda: state(node) != 'T', [node], 'the end of it', seconds=5.0)
