"""Memory that is kept when it is freed."""

import platform
import resource
import subprocess
import sys

import pytest

# Takes and gives back what a camera's images take; prints how many pages were cleared for it.
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
def test_images_come_without_new_pages():
    def pages_cleared(*arguments):
        command = [sys.executable, '-c', PROGRAM, *arguments]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    pages = 200 * 4 * 921600 // resource.getpagesize()
    assert pages_cleared() > pages / 4
    assert pages_cleared('keep') < pages / 100


def test_another_c_library_is_left_alone(monkeypatch):
    from step_ros.ros.process_setup import keep_freed_memory

    monkeypatch.setattr(platform, 'libc_ver', lambda: ('musl', ''))
    assert not keep_freed_memory()
