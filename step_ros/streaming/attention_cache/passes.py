# SPDX-License-Identifier: Apache-2.0
"""The functions of the compiled passes (`csrc/attention_sums.cpp`), on tensors of the CPU.

`library.py` finds or builds the shared library. Without one the torch code of the callers does the
same work, slower.

Chosen by measurement: the column sums of one head (T=16, n=256, d=384, 6 attention heads, in
bfloat16, one core) from kept exponentials take 21 ms for one order of the window, 23 for two; by
torch.compile 31 ms for each order after 34 s of compiling; by torch calls 125 ms for each.
"""

import ctypes
import logging
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from step_ros.streaming.attention_cache.library import NativeError, find_library

# Less work than this many multiply-adds is done faster by one thread than handed to several.
_ONE_THREAD = 1_000_000

_logger = logging.getLogger(__name__)


class NativeUpdate(ctypes.Structure):
    """`NativeUpdate` of attention_sums.cpp, whose comments explain the fields."""

    _fields_ = [
        ('cache', ctypes.c_void_p),
        ('place', ctypes.c_int64),
        ('qkv', ctypes.c_void_p),
        *((f'{name}_stride', ctypes.c_int64) for name in ('part', 'group', 'token')),
        ('slots', ctypes.c_void_p),
        ('orders', ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ('attended', 'spreads')),
        *((f'{name}_threads', ctypes.c_int64) for name in ('put', 'attend')),
    ]


class NativePasses:
    """The compiled passes, on contiguous float32 tensors of the CPU.

    Args:
        path: The shared library.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name in ('step_attend', 'step_softmax_sums'):
            getattr(self._library, name).restype = None
        self._library.step_put.restype = ctypes.c_float
        self._library.apply_updates.restype = ctypes.c_int64

    def store_frame(
        self,
        cache: Any,
        place: int,
        qkv_3gnc: Tensor,
        *,
        strides: tuple[int, int, int],
        threads: int,
    ) -> float:
        """Store a frame at its place in a `StepCache`.

        Args:
            cache: Reference to the structure.
            place: The place.
            qkv_3gnc: Queries, keys and values; channels are contiguous.
            strides: Strides of all axes but the channels, in numbers.
            threads: Number of threads that share the work.

        Returns:
            The greatest difference of a positional score within the frame.
        """
        arguments = (*map(ctypes.c_int64, strides), ctypes.c_int64(threads))
        return float(
            self._library.step_put(cache, ctypes.c_int64(place), _pointer(qkv_3gnc), *arguments)
        )

    def attend(
        self, cache: Any, slots: Tensor, *, newest: int, attended: Tensor, threads: int
    ) -> None:
        """Sum the attended values of a `StepCache`.

        Args:
            cache: Reference to the structure.
            slots: Slot of each place, `[v, t]`, int32; one or two orders.
            newest: Place of the newest frame.
            attended: Receives the sums, `[v, g, c]`.
            threads: Number of threads that share the work.
        """
        self._library.step_attend(
            cache,
            _pointer(slots),
            ctypes.c_int64(len(slots)),
            ctypes.c_int64(newest),
            _pointer(attended),
            ctypes.c_int64(threads),
        )

    def apply_updates(
        self, updates: 'ctypes.Array[NativeUpdate]', *, first: int, most_spread: float
    ) -> tuple[int, int]:
        """Store frames and sum attended values, without Python and its lock in between.

        Args:
            updates: Updates of any caches, in order.
            first: Index of the first update to apply.
            most_spread: The call ends at a window with a greater spread, after storing its frame.

        Returns:
            The index of that update, or their number; and nanoseconds spent on windows.
        """
        attend_ns = ctypes.c_int64(0)
        done = self._library.apply_updates(
            ctypes.byref(updates, first * ctypes.sizeof(NativeUpdate)),
            ctypes.c_int64(len(updates) - first),
            ctypes.c_float(most_spread),
            ctypes.byref(attend_ns),
        )
        return first + int(done), attend_ns.value

    def softmax_sums(self, scores: Tensor, *, weights: Tensor, sums: Tensor) -> None:
        """Add the weighted softmax of each row of `scores`, `[rows, l]`, to `sums`, `[l]`.

        `weights` are `[rows]`.
        """
        rows, columns = scores.shape
        self._library.step_softmax_sums(
            *map(_pointer, (scores, weights, sums)),
            ctypes.c_int64(rows),
            ctypes.c_int64(columns),
            ctypes.c_int64(threads_for(rows * columns * 8)),
        )


def find_native() -> NativePasses | None:
    """Return the compiled passes; None if there are none, which is logged once."""
    try:
        return load_native()
    except NativeError as error:
        _report(str(error))
        return None


@cache
def load_native() -> NativePasses:
    """Load the compiled passes: the installed ones, else some that are compiled now.

    Raises:
        NativeError: There are none for this processor, and they cannot be compiled.
    """
    path = find_library()
    try:
        return NativePasses(path)
    except (OSError, AttributeError) as error:  # AttributeError: a function is missing in it
        raise NativeError(f'{path} cannot be loaded: {error}') from error


def forget() -> None:
    """Forget the loaded passes, so that the next use looks for them again."""
    load_native.cache_clear()
    _report.cache_clear()


@cache
def _report(why: str) -> None:
    _logger.warning('heads run without compiled passes, slower: %s', why)


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def threads_for(work: int) -> int:
    """Return how many threads are to share so many multiply-adds."""
    return 1 if work < _ONE_THREAD else torch.get_num_threads()
