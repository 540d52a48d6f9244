"""The compiled passes, `attention_sums.cpp`: built on first use, missed by nobody.

The machine's own C++ compiler builds it once, for the machine's own processor, into the user's
cache folder (about 3 s). Where there is no compiler, the torch code of the callers does the
same work, slower.

Chosen by measurement: the column sums of one head (T=16, n=256, d=384, 6 attention heads, in
bfloat16, one core) from kept exponentials take 21 ms for one order of the window, 23 for two; by
torch.compile 31 ms for each order after 34 s of compiling; by torch calls 125 ms for each.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).parent / 'csrc' / 'attention_sums.cpp'
FLAGS = (
    *('-O3', '-march=native', '-std=c++17', '-shared', '-fPIC', '-pthread'),
    *('-fno-math-errno', '-fno-trapping-math'),
)
COMPILE_SECONDS = 120
# Less work than this many multiply-adds is done faster by one thread than handed to several.
_ONE_THREAD = 1_000_000

_logger = logging.getLogger(__name__)


class NativeError(RuntimeError):
    """The compiled passes are not to be had; says why."""


class NativeUpdate(ctypes.Structure):
    """`NativeUpdate` of the C++ file, whose comments say what it is."""

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

    def put(
        self,
        cache: Any,
        place: int,
        qkv_3gnc: Tensor,
        *,
        strides: tuple[int, int, int],
        threads: int,
    ) -> float:
        """Put a frame in its place in a `StepCache`.

        Args:
            cache: Reference to the structure.
            place: Where to.
            qkv_3gnc: Queries, keys and values; channels are contiguous.
            strides: Of all but the channels.
            threads: How many share the work.

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
            attended: Takes the sums, `[v, g, c]`.
            threads: How many share the work.
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
        self, turns: 'ctypes.Array[NativeUpdate]', *, first: int, most_spread: float
    ) -> tuple[int, int]:
        """Put frames and sum attended values, without Python and its lock in between.

        Args:
            turns: Of any caches, in order.
            first: Where to begin.
            most_spread: A window with a greater spread ends it, its frame put.

        Returns:
            Index of that turn, or how many there are; and nanoseconds spent on windows.
        """
        attend_ns = ctypes.c_int64(0)
        done = self._library.apply_updates(
            ctypes.byref(turns, first * ctypes.sizeof(NativeUpdate)),
            ctypes.c_int64(len(turns) - first),
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
    """Return the compiled passes; None where they cannot be had, which is logged once."""
    try:
        return load_native()
    except NativeError as error:
        _report(str(error))
        return None


@cache
def load_native() -> NativePasses:
    """Load the compiled passes, and compile them if that has not been done on this machine.

    Raises:
        NativeError: There is no compiler, or it fails, or others can write to the cache folder.
    """
    compiler = os.environ.get('CXX') or shutil.which('g++') or shutil.which('clang++')
    if not compiler or not shutil.which(compiler):
        raise NativeError(f'no C++ compiler ({compiler or "g++, clang++"}) to compile {SOURCE}')
    try:
        files = (SOURCE, *sorted(SOURCE.parent.glob('attention_*.h')))
        sources = [file.read_text(encoding='utf-8') for file in files]
        key = '\0'.join([*sources, *_command(compiler), _processor()])
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        path = cache_folder() / f'attention_sums-{digest}.so'
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_shared(path.parent)
        if not path.is_file():
            compile_to(path, compiler)
        return NativePasses(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        raise NativeError(str(error)) from error


def compile_to(path: Path, compiler: str) -> None:
    """Compile `attention_sums.cpp`; the library appears whole or not at all.

    Raises:
        NativeError: The compiler fails.
        OSError: The library cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        try:
            done = subprocess.run(
                [*_command(compiler), '-o', str(fresh), str(SOURCE)],
                capture_output=True,
                text=True,
                timeout=COMPILE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NativeError(f'{compiler} takes more than {COMPILE_SECONDS} s') from error
        if done.returncode:
            raise NativeError(f'{compiler} cannot compile {SOURCE}: {done.stderr.strip()[:500]}')
        fresh.replace(path)


def _command(compiler: str) -> list[str]:
    # Of OpenMP's libraries torch brings GCC's, whose threads it keeps awake; those of a second one
    # would fight with them for the processor.
    openmp = '-fopenmp-simd' if 'clang' in Path(compiler).name else '-fopenmp'
    return [compiler, *FLAGS, openmp]


def cache_folder() -> Path:
    """Return where compiled passes are kept: `$XDG_CACHE_HOME/step_ros` or `~/.cache/step_ros`."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'step_ros'


def _refuse_shared(folder: Path) -> None:
    # What lies there is run: nobody else may put anything there.
    found = folder.stat()
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o022:
        raise NativeError(
            f'other users can write to {folder}, from where code would be loaded; make it your '
            'own (chmod go-w), or set XDG_CACHE_HOME to a folder that is'
        )


def _processor() -> str:
    """Describe the processor: what is compiled for one may not run on another."""
    described = [platform.machine(), platform.processor()]
    information = Path('/proc/cpuinfo')
    if information.is_file():
        lines = information.read_text(encoding='utf-8', errors='replace').splitlines()
        described += sorted(
            {x for x in lines if x.startswith(('flags', 'Features', 'model name'))}
        )
    return '\n'.join(described)


@cache
def _report(why: str) -> None:
    _logger.warning('heads run without compiled passes, slower: %s', why)


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def threads_for(work: int) -> int:
    """Return how many threads are to share so many multiply-adds."""
    return 1 if work < _ONE_THREAD else torch.get_num_threads()
