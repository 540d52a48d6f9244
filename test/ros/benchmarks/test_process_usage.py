# SPDX-License-Identifier: Apache-2.0
"""Processor time and memory of a process, as the system reports them."""

import os
import subprocess
import sys
import threading
import time

import pytest

from step_ros.ros.benchmarks.process_usage import (
    EXECUTOR,
    MIDDLEWARE,
    MODEL,
    busy_seconds,
    cpu_seconds,
    memory,
)

pytestmark = pytest.mark.skipif(not os.path.isdir('/proc/self/task'), reason='needs Linux')


def work(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_processor_time_counts_for_the_thread_that_took_it():
    before = cpu_seconds(os.getpid())
    taken = {}

    def other():
        work(0.3)
        taken.update(cpu_seconds(os.getpid()))  # a thread that has ended is not seen

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert taken[MODEL] - before[MODEL] >= 0.2
    assert taken[EXECUTOR] - before[EXECUTOR] < 0.2
    work(0.3)
    assert cpu_seconds(os.getpid())[EXECUTOR] - before[EXECUTOR] >= 0.2


def test_threads_of_the_middleware_are_recognised_by_name():
    code = """
import ctypes, threading, time
def work():
    ctypes.CDLL(None).prctl(15, b'dds.shm (1)', 0, 0, 0)  # PR_SET_NAME
    while True: sum(range(10000))
threading.Thread(target=work, daemon=True).start()
print('on', flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        deadline = time.monotonic() + 20
        while (taken := cpu_seconds(process.pid))[MIDDLEWARE] < 0.2:
            assert time.monotonic() < deadline, taken
            time.sleep(0.05)
        assert taken[MODEL] == 0
    finally:
        process.kill()
        process.wait()


def test_the_machine_is_busy_while_a_process_computes():
    before = busy_seconds()
    work(0.5)
    assert busy_seconds() - before >= 0.4


def test_memory_grows_with_an_allocation():
    before = memory(os.getpid())
    block = bytearray(b'1') * (64 * 2**20)
    after = memory(os.getpid())
    assert after.resident - before.resident > 0.9 * len(block)
    assert after.anonymous - before.anonymous > 0.9 * len(block)


def test_a_missing_process_is_an_error():
    process = subprocess.Popen([sys.executable, '-c', ''])
    process.wait()
    for ask in (cpu_seconds, memory):
        with pytest.raises(ProcessLookupError, match=str(process.pid)):
            ask(process.pid)
