# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: two node processes, real DDS, the shipped model."""

import json
import os
import signal
import subprocess
import sys
import time

import av
import cv2
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow]

COMMAND = [sys.executable, '-c', 'from step_ros.cli import main; main()', 'demo']


@pytest.fixture
def run_demo(tmp_path):
    """Start the demo in an empty folder: `run_demo(*arguments)`."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(1 + os.getpid() % 40)}
    started = []

    def run(*arguments):
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            # Not SIGKILL: the demo must end its nodes, or other tests would hear them.
            process.terminate()
            process.communicate(timeout=60)


def video_frames(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_demo_recognises_the_tabletop(run_demo, tmp_path):
    process = run_demo('--seconds', '12', '--json', 'figures.json')
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert figures['hypotheses'] >= 30, output
    # A short run has few windows; its accuracy varies.
    assert figures['settled_accuracy'] >= 0.6, output
    assert figures['dropped_grid_frames'] >= 0
    latency = figures['latency_ms']
    assert 0 < latency['p50'] <= latency['p95'] <= latency['p99']
    assert figures['model_id'].startswith('tabletop-tiny@')
    assert 'accuracy on settled windows' in output
    assert video_frames(tmp_path / 'demo_output' / 'demo.mp4') >= 60
    assert cv2.imread(str(tmp_path / 'demo_output' / 'timeline.png')).shape[1] > 1000


def test_ctrl_c_ends_it_with_a_summary(run_demo, tmp_path):
    process = run_demo('--seconds', '300')
    deadline = time.monotonic() + 120
    log = tmp_path / 'demo_output' / 'camera_node.log'
    while not (log.is_file() and 'publishing tabletop' in log.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert 'interrupted' in output
    assert 'hypotheses' in output
    assert 'Traceback' not in output


def test_an_unknown_bundle_is_one_error_line(run_demo):
    process = run_demo('--bundle', 'no-such-bundle')
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 1
    assert 'no-such-bundle' in output
    assert 'Traceback' not in output


def test_a_missing_video_is_an_error_at_once(run_demo):
    process = run_demo('--video', 'nowhere.mp4')
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert 'nowhere.mp4' in output
