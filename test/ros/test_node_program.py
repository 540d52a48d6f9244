# SPDX-License-Identifier: Apache-2.0
"""Nodes as programs: signals during the import."""

import signal
import subprocess
import sys

import pytest

# Prints a line once the import of the node has come to torch, which takes seconds.
LOADING = """
import sys, threading, time
from step_ros.ros import node_program
def report():
    while 'torch' not in sys.modules:
        time.sleep(0.001)
    print('loads', flush=True)
threading.Thread(target=report, daemon=True).start()
node_program.main('perception_node')
"""


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_signal_during_import_ends_the_program_silently(how):
    command = [sys.executable, '-c', LOADING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout.readline() == b'loads\n'
        process.send_signal(how)
        assert process.communicate(timeout=20) == (b'', None)
    assert process.returncode == 0
