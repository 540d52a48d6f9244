"""What a node's process takes of the machine: processor time by stage, memory. Linux alone.

Python does not tell the system the names of its threads, Fast DDS does. So the stages are: the
main thread, which is the executor's; the threads of the middleware, by their names; all others,
which is the worker and the threads that torch computes with.
"""

import os
from dataclasses import dataclass
from pathlib import Path

EXECUTOR, MODEL, MIDDLEWARE = STAGES = ('executor', 'model', 'dds')
# How Fast DDS begins the names of its threads.
_MIDDLEWARE_PREFIX = 'dds.'


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident memory of a process, in bytes.

    Attributes:
        resident: All of it.
        anonymous: Its own: heap and stacks.
        shared: Shared memory, where the middleware's messages are.
    """

    resident: int
    anonymous: int
    shared: int


def cpu_seconds(pid: int) -> dict[str, float]:
    """Return the processor time that a process has taken so far, by stage, in seconds.

    Threads that have ended are left out.

    Raises:
        ProcessLookupError: There is no such process, or no Linux to ask.
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
        # utime and stime: fields 14 and 15 of proc(5), of which the second is the name.
        taken[stage] += (int(fields[12]) + int(fields[13])) / os.sysconf('SC_CLK_TCK')
    return taken


def busy_seconds() -> float:
    """Return the processor time that all cores of the machine have been busy, in seconds.

    Raises:
        ProcessLookupError: There is no Linux to ask.
    """
    try:
        text = Path('/proc/stat').read_text(encoding='utf-8')
    except OSError as error:
        raise ProcessLookupError('there is no /proc/stat to ask') from error
    # user, nice, system, idle, iowait, irq, softirq, steal; what follows is in the first two.
    ticks = [int(field) for field in text.splitlines()[0].split()[1:9]]
    return (sum(ticks) - sum(ticks[3:5])) / os.sysconf('SC_CLK_TCK')


def memory(pid: int) -> Memory:
    """Return what a process holds in memory now.

    Raises:
        ProcessLookupError: There is no such process, or no Linux to ask.
    """
    try:
        text = Path(f'/proc/{pid}/status').read_text(encoding='utf-8')
    except OSError as error:
        raise ProcessLookupError(f'process {pid} is not in /proc') from error
    found = dict(line.split(':', 1) for line in text.splitlines() if ':' in line)

    def in_bytes(key: str) -> int:
        # An ended process that nobody has waited for has no memory any more.
        return 1024 * int(found.get(key, '0 kB').split()[0])

    return Memory(
        resident=in_bytes('VmRSS'), anonymous=in_bytes('RssAnon'), shared=in_bytes('RssShmem')
    )


def _threads(pid: int) -> list[tuple[int, list[str]]]:
    """Return each thread with its name and what follows it in `stat`."""
    found = []
    try:
        threads = list(Path(f'/proc/{pid}/task').iterdir())
    except OSError as error:
        raise ProcessLookupError(f'process {pid} is not in /proc') from error
    for thread in threads:
        try:
            text = (thread / 'stat').read_text(encoding='utf-8')
        except OSError:  # it ended meanwhile
            continue
        # The name stands in brackets and may hold blanks and brackets itself.
        name, _, rest = text.partition('(')[2].rpartition(')')
        found.append((int(thread.name), [name, *rest.split()]))
    return found
