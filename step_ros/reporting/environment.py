# SPDX-License-Identifier: Apache-2.0
"""The environment variables of ROS 2 that stop every node, checked before a node starts.

ROS 2 itself ends in a traceback of C code for a wrong domain, and for logs that it cannot write.
The file imports the standard library alone.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

# The greatest domain: the ports of a greater one lie beyond 65535.
GREATEST_DOMAIN = 232


class RosEnvironmentError(RuntimeError):
    """An environment variable of ROS 2 stops every node; the message names the mend."""


def check_ros_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a domain or a log folder with which no node can start.

    Args:
        environ: Environment variables.

    Raises:
        RosEnvironmentError: The domain is none, or logs cannot be written.
    """
    read_domain(environ)
    check_folder(log_folder(environ), 'logs of ROS 2', 'set ROS_LOG_DIR to a folder of your own')


def read_domain(environ: Mapping[str, str] = os.environ) -> int:
    """Return the domain that the environment chooses, 0 to 232; 0 without a choice.

    Args:
        environ: Environment variables.

    Raises:
        RosEnvironmentError: `ROS_DOMAIN_ID` is no such number.
    """
    text = environ.get('ROS_DOMAIN_ID', '').strip()
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= GREATEST_DOMAIN):
        raise RosEnvironmentError(
            f'ROS_DOMAIN_ID={text!r}: expected a whole number from 0 to {GREATEST_DOMAIN}; '
            'set it to one that all your programs share: export ROS_DOMAIN_ID=0'
        )
    return int(text)


def log_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of ROS 2's logs, chosen as ROS 2 chooses it.

    Args:
        environ: Environment variables.

    Raises:
        RosEnvironmentError: No variable says where it is.
    """
    home = environ.get('HOME', '')
    for name, below in (('ROS_LOG_DIR', ''), ('ROS_HOME', 'log'), ('HOME', '.ros/log')):
        if value := environ.get(name, ''):
            if value.startswith('~') and home:
                value = home + value[1:]
            return Path(value) / below
    raise RosEnvironmentError(
        'HOME is not set, so ROS 2 has no folder for its logs; set HOME, or ROS_LOG_DIR to a '
        'folder of your own: export ROS_LOG_DIR=$PWD/ros_log'
    )


def check_folder(folder: Path, purpose: str, mend: str) -> None:
    """Refuse a folder in which this user cannot write a file, without making it.

    Args:
        folder: The folder, which need not exist.
        purpose: What the program keeps there, for the error.
        mend: How the user mends it, for the error.

    Raises:
        RosEnvironmentError: The folder, or the place where it would be made, is not writable.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise RosEnvironmentError(f'{folder} ({purpose}): {existing} is not a folder; {mend}')
    try:
        # Only a try says: the superuser may write everywhere, but not on a read-only disk.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise RosEnvironmentError(
            f'{folder} ({purpose}): cannot write to {existing} ({error.strerror}); {mend}'
        ) from error
