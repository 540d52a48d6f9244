"""Memory that is kept when it is freed, so that images do not cost more than they must."""

import ctypes
import platform

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
