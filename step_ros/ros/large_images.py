"""Room in shared memory for large images, so that none are lost on the way."""

import os
from pathlib import Path

from step_ros.resources import share_directory

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
