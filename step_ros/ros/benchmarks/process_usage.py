# SPDX-License-Identifier: Apache-2.0
"""Processor time by stage, and memory, of a node's process. Linux only.

Python does not set the names of its threads in the system; Fast DDS does. So the stages are:

- `executor`: the main thread, which runs the executor;
- `dds`: the threads of the middleware, recognised by their names;
- `model`: all other threads: the worker, and the threads in which torch computes.
"""

import os
from dataclasses import dataclass
from pathlib import Path

EXECUTOR, MODEL, MIDDLEWARE = STAGES = ('executor', 'model', 'dds')
# Fast DDS begins the names of its threads with this.
_MIDDLEWARE_PREFIX = 'dds.'


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident memory of a process, in bytes.

    Attributes:
        resident: All of it.
        anonymous: The process's own memory: heap and stacks.
        shared: Shared memory, which holds the messages of the middleware.
    """

    resident: int
    anonymous: int
    shared: int


def cpu_seconds(pid: int) -> dict[str, float]:
    """Return the processor time of a process so far, by stage, in seconds.

    Threads that have ended are left out.

    Raises:
        ProcessLookupError: There is no process with this id, or the system is not Linux.
    """
    taken = dict.fromkeys(STAGES, 0.0)
    for thread, fields in _threads(pid):
        name = fields[0]
        if thread == pid:
            stage = EXECUTOR
        elif name.startswith(_MIDDLEWARE_PREFIX):
            stage = MIDDLEWARE
        else:
            stage = MODEL
        # utime and stime are fields 14 and 15 of proc(5); `fields` begins with field 2, the name.
        taken[stage] += (int(fields[12]) + int(fields[13])) / os.sysconf('SC_CLK_TCK')
    return taken


def busy_seconds() -> float:
    """Return the time that all cores of the machine have been busy, summed, in seconds.

    Raises:
        ProcessLookupError: The system is not Linux.
    """
    try:
        text = Path('/proc/stat').read_text(encoding='utf-8')
    except OSError as error:
        raise ProcessLookupError('/proc/stat cannot be read: this needs Linux') from error
    # user, nice, system, idle, iowait, irq, softirq, steal. The guest times after them are
    # contained in the first two.
    ticks = [int(field) for field in text.splitlines()[0].split()[1:9]]
    return (sum(ticks) - sum(ticks[3:5])) / os.sysconf('SC_CLK_TCK')


def memory(pid: int) -> Memory:
    """Return the memory of a process now.

    Raises:
        ProcessLookupError: There is no process with this id, or the system is not Linux.
    """
    try:
        text = Path(f'/proc/{pid}/status').read_text(encoding='utf-8')
    except OSError as error:
        raise ProcessLookupError(f'process {pid} is not in /proc') from error
    found = dict(line.split(':', 1) for line in text.splitlines() if ':' in line)

    def in_bytes(key: str) -> int:
        # A zombie, ended but not yet waited for, has no memory fields.
        return 1024 * int(found.get(key, '0 kB').split()[0])

    return Memory(
        resident=in_bytes('VmRSS'), anonymous=in_bytes('RssAnon'), shared=in_bytes('RssShmem')
    )


def _threads(pid: int) -> list[tuple[int, list[str]]]:
    """Return each thread with its name and the fields that follow the name in `stat`."""
    found = []
    try:
        threads = list(Path(f'/proc/{pid}/task').iterdir())
    except OSError as error:
        raise ProcessLookupError(f'process {pid} is not in /proc') from error
    for thread in threads:
        try:
            text = (thread / 'stat').read_text(encoding='utf-8')
        except OSError:  # the thread ended meanwhile
            continue
        # The name stands in brackets and may itself hold spaces and brackets.
        name, _, rest = text.partition('(')[2].rpartition(')')
        found.append((int(thread.name), [name, *rest.split()]))
    return found
