# SPDX-License-Identifier: Apache-2.0
"""Settings of the process for large images: memory reuse, and shared memory of Fast DDS.

Both must be set before the first image: `keep_freed_memory` when the program starts, and
`make_room_for_large_images` before `rclpy.init`.
"""

import ctypes
import os
import platform
from pathlib import Path

from step_ros.resources import share_directory

# Option numbers of the GNU C library, from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# The largest mmap threshold that the library accepts: room for one 4K colour image.
_MMAP_THRESHOLD = 32 * 2**20
_TRIM_THRESHOLD = 2 * _MMAP_THRESHOLD

# Up to Jazzy, Fast DDS 2 reads the old name; from Kilted on, Fast DDS 3 warns about it.
_VARIABLE, _OLD_VARIABLE = 'FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'
_OLD_DISTRIBUTIONS = ('humble', 'iron', 'jazzy')
# Environment variables by which the user chooses a profile or transports; the choice stays.
CHOICES = (_VARIABLE, _OLD_VARIABLE, 'FASTDDS_BUILTIN_TRANSPORTS')
# Profiles that Fast DDS reads from the working directory.
_DEFAULT_FILES = ('DEFAULT_FASTDDS_PROFILES.xml', 'DEFAULT_FASTRTPS_PROFILES.xml')


def keep_freed_memory() -> bool:
    """Let the process reuse freed memory instead of returning it to the system.

    By default the C library maps new buffers for every image, and the system clears each page:
    at 640 x 480 that takes longer than all other work on the image.

    Returns:
        Whether the C library is glibc and has accepted the settings.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    library = ctypes.CDLL(None)
    return all(
        library.mallopt(option, size) == 1
        for option, size in (
            (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD),
            (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD),
        )
    )


def make_room_for_large_images() -> None:
    """Let Fast DDS use the profile `config/fastdds.xml`, unless the user chose another.

    The profile enlarges the shared memory, so that large images are not lost. Call this before
    `rclpy.init`. Other middlewares ignore it.
    """
    if any(os.environ.get(name) for name in CHOICES):
        return
    if any(Path(name).exists() for name in _DEFAULT_FILES):
        return
    old = os.environ.get('ROS_DISTRO') in _OLD_DISTRIBUTIONS
    profile = share_directory() / 'config' / 'fastdds.xml'
    os.environ[_OLD_VARIABLE if old else _VARIABLE] = str(profile)
