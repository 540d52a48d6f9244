# SPDX-License-Identifier: Apache-2.0
"""Settings of the process: reuse of freed memory."""

import platform
import resource
import subprocess
import sys

import pytest

# Allocates and frees the memory of a camera's images; prints the number of page faults.
PROGRAM = """
import resource, sys
from step_ros.ros.process_setup import keep_freed_memory
if 'keep' in sys.argv:
    assert keep_freed_memory()
def images():
    for _ in range(200):
        [bytearray(921600) for _ in range(4)]
images()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
images()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the C library is not the GNU one')
def test_images_reuse_freed_memory():
    def page_faults(*arguments):
        command = [sys.executable, '-c', PROGRAM, *arguments]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    pages = 200 * 4 * 921600 // resource.getpagesize()
    assert page_faults() > pages / 4
    assert page_faults('keep') < pages / 100


def test_other_c_library_is_left_unchanged(monkeypatch):
    from step_ros.ros.process_setup import keep_freed_memory

    monkeypatch.setattr(platform, 'libc_ver', lambda: ('musl', ''))
    assert not keep_freed_memory()
