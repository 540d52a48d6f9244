"""Memory that is kept when it is freed, so that images do not cost more than they must."""

import ctypes
import os
import platform
from pathlib import Path

from step_ros.resources import share_directory

# Names of the GNU C library's options, from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

# The largest that the library takes: room for one 4K colour image.
_LARGEST = 32 * 2**20

_KEPT = 2 * _LARGEST


def keep_freed_memory() -> bool:
    """Let the process keep some freed memory; return whether the C library is one that can.

    Otherwise the buffers of every image that comes are taken from the system and given back, and
    the system clears each page: at 640 x 480 that takes longer than all else done with an image.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    library = ctypes.CDLL(None)
    return all(
        library.mallopt(option, size) == 1
        for option, size in ((_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _KEPT))
    )


# ---- Room in shared memory for large images, so that none are lost on the way.

# Up to Jazzy, Fast DDS 2 reads the old name; from Kilted on, Fast DDS 3 warns of it.
_VARIABLE, _OLD_VARIABLE = 'FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'

_OLD_DISTRIBUTIONS = ('humble', 'iron', 'jazzy')

# Whoever has chosen something here or there knows better.
CHOICES = (_VARIABLE, _OLD_VARIABLE, 'FASTDDS_BUILTIN_TRANSPORTS')

_DEFAULT_FILES = ('DEFAULT_FASTDDS_PROFILES.xml', 'DEFAULT_FASTRTPS_PROFILES.xml')


def make_room_for_large_images() -> None:
    """Let Fast DDS take the profile `config/fastdds.xml`, unless the user chose something else.

    Call it before `rclpy.init`. Other middlewares do not look at it.
    """
    if any(os.environ.get(name) for name in CHOICES):
        return
    if any(Path(name).exists() for name in _DEFAULT_FILES):
        return
    old = os.environ.get('ROS_DISTRO') in _OLD_DISTRIBUTIONS
    profile = share_directory() / 'config' / 'fastdds.xml'
    os.environ[_OLD_VARIABLE if old else _VARIABLE] = str(profile)
