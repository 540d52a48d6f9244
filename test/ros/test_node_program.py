"""Nodes as programs, from the first moment on."""

import signal
import subprocess
import sys
import time

import pytest

# Says when the program begins to load the node, which takes seconds.
LOADING = """
import importlib, sys
from step_ros.ros import node_program
load = importlib.import_module
def loudly(name):
    importlib.import_module = load
    print('loads', flush=True)
    return load(name)
importlib.import_module = loudly
node_program.main('perception_node')
"""


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_node_is_loaded_ends_it_without_a_word(how):
    command = [sys.executable, '-c', LOADING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout.readline() == b'loads\n'
        time.sleep(0.2)
        process.send_signal(how)
        assert process.communicate(timeout=20) == (b'', None)
    assert process.returncode == 0
