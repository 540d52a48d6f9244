# SPDX-License-Identifier: Apache-2.0
"""A lock between processes that make the same files."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock between processes; the system frees it when its holder dies.

    Args:
        path: The lock file. It stays, empty; its folder is made if it is missing.
        wait: Whether to wait for another holder.

    Yields:
        Whether this process holds the lock; always true if it waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
