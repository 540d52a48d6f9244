# SPDX-License-Identifier: Apache-2.0
"""The compiled passes as a shared library: built at install, found at run time.

The installation compiles `csrc/attention_sums.cpp` once for each level of processors that the
machine's architecture has (`LEVELS`): `colcon build` by CMakeLists.txt, `pip install` by setup.py,
both through this file. A robot needs no compiler then: `find_library` takes the highest level that
its processor supports. The name of a library carries a digest of the sources, so that a library
of other sources is never loaded.

Where no installed library fits (a checkout that nobody installed, another architecture),
`find_library` compiles one on first use into the user's cache folder, for this very processor;
that takes about 3 s.

The file imports the standard library alone, for the installation runs it before torch is there:
`python library.py OUTPUT_FOLDER`.
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).parent / 'csrc' / 'attention_sums.cpp'
FLAGS = (
    *('-O3', '-std=c++17', '-shared', '-fPIC', '-pthread'),
    *('-fno-math-errno', '-fno-trapping-math'),
)
# Levels of each architecture, the highest first: the compiler's flags, and the processor features
# (names of /proc/cpuinfo) without which the library would end in an illegal instruction.
_V2 = ('cx16', 'lahf_lm', 'popcnt', 'pni', 'sse4_1', 'sse4_2', 'ssse3')
_V3 = (*_V2, 'abm', 'avx', 'avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'movbe')
_V4 = (*_V3, 'avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl')
LEVELS: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    'x86_64': {
        # Without the second flag GCC keeps to 256-bit vectors, for the sake of older processors.
        'x86-64-v4': (('-march=x86-64-v4', '-mprefer-vector-width=512'), _V4),
        'x86-64-v3': (('-march=x86-64-v3',), _V3),
        'x86-64-v2': (('-march=x86-64-v2',), _V2),
    },
    'aarch64': {'armv8-a': (('-march=armv8-a',), ())},
}
COMPILE_SECONDS = 120


class NativeError(RuntimeError):
    """The compiled passes cannot be built or loaded; the message says why."""


def find_library() -> Path:
    """Return the shared library for this processor: an installed one, else one compiled now.

    Raises:
        NativeError: None is installed, and there is no compiler, or it fails, or other users can
            write to the cache folder.
    """
    return find_installed(installed_folders()) or compile_on_first_use()


def find_installed(folders: Sequence[Path]) -> Path | None:
    """Return the installed library of the highest level that this processor supports, if any.

    Args:
        folders: Where to look, the first one first.
    """
    try:
        digest = source_digest()
    except OSError:
        return None
    features = processor_features()
    for level, (_, needed) in LEVELS.get(platform.machine(), {}).items():
        if features.issuperset(needed):
            for folder in folders:
                if (path := folder / file_name(level, digest)).is_file():
                    return path
    return None


def installed_folders() -> list[Path]:
    """Return the folders in which an installation puts the libraries.

    A checkout may lie in front of the installed package (`step_ros.__path__` has both), and only
    the installed one holds the libraries.
    """
    import step_ros

    own = Path(__file__).parent
    roots = [Path(root) / 'streaming' / 'attention_cache' for root in step_ros.__path__]
    return list(dict.fromkeys([own, *roots]))


def compile_on_first_use() -> Path:
    """Return a library for this very processor from the user's cache; compile it if need be.

    Raises:
        NativeError: There is no compiler, or it fails, or others can write to the cache folder.
    """
    try:
        compiler = find_compiler()
        key = '\0'.join([source_digest(), *_command(compiler, ['-march=native']), _processor()])
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        path = cache_folder() / f'attention_sums-{digest}.so'
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_shared(path.parent)
        if not path.is_file():
            compile_to(path, compiler, ['-march=native'])
        return path
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        raise NativeError(str(error)) from error


def compile_levels(
    output: Path, *, machine: str | None = None, compiler: str | None = None
) -> list[Path]:
    """Compile the library for every level of an architecture; what is there already stays.

    Libraries of other sources in the folder are removed.

    Args:
        output: The folder; made if it is missing.
        machine: The architecture, as `uname -m` says it; this machine's without.
        compiler: The C++ compiler; `$CXX`, g++ or clang++ without.

    Returns:
        The libraries; none for an architecture that `LEVELS` does not list.

    Raises:
        NativeError: There is no compiler, or it fails.
        OSError: A source cannot be read, or a library cannot be written.
    """
    levels = LEVELS.get(machine or platform.machine(), {})
    digest = source_digest()
    output.mkdir(parents=True, exist_ok=True)
    wanted = {level: output / file_name(level, digest) for level in levels}
    for stale in set(output.glob('attention_sums-*.so')) - set(wanted.values()):
        stale.unlink()
    for level, path in wanted.items():
        if not path.is_file():
            compile_to(path, find_compiler(compiler), levels[level][0])
    return list(wanted.values())


def compile_to(path: Path, compiler: str, flags: Sequence[str]) -> None:
    """Compile `attention_sums.cpp`; the library appears whole or not at all.

    Args:
        path: The library.
        compiler: The C++ compiler.
        flags: Which processor to compile for.

    Raises:
        NativeError: The compiler fails.
        OSError: The library cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / path.name
        try:
            done = subprocess.run(
                [*_command(compiler, flags), '-o', str(partial), str(SOURCE)],
                capture_output=True,
                text=True,
                timeout=COMPILE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NativeError(f'{compiler} takes more than {COMPILE_SECONDS} s') from error
        if done.returncode:
            raise NativeError(f'{compiler} cannot compile {SOURCE}: {done.stderr.strip()[:500]}')
        partial.replace(path)


def find_compiler(named: str | None = None) -> str:
    """Return the C++ compiler: the one named, `$CXX`, g++ or clang++.

    Raises:
        NativeError: There is none.
    """
    compiler = (
        named or os.environ.get('CXX') or shutil.which('g++') or shutil.which('clang++') or ''
    )
    if not compiler or not shutil.which(compiler):
        raise NativeError(f'no C++ compiler ({compiler or "g++, clang++"}) to compile {SOURCE}')
    return compiler


def file_name(level: str, digest: str) -> str:
    """Return the name of the library of a level, made from sources of a digest."""
    return f'attention_sums-{digest}-{level}.so'


def source_digest() -> str:
    """Return a short digest of the C++ sources.

    Raises:
        OSError: They cannot be read.
    """
    files = (SOURCE, *sorted(SOURCE.parent.glob('attention_*.h')))
    text = '\0'.join(file.read_text(encoding='utf-8') for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Return where compiled passes are kept: `$XDG_CACHE_HOME/step_ros` or `~/.cache/step_ros`."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'step_ros'


def processor_features() -> frozenset[str]:
    """Return the features of this processor by their names in /proc/cpuinfo; empty if unknown."""
    for line in _processor_lines():
        if line.startswith(('flags', 'Features')):
            return frozenset(line.partition(':')[2].split())
    return frozenset()


def _processor_lines() -> list[str]:
    information = Path('/proc/cpuinfo')
    if not information.is_file():
        return []
    return information.read_text(encoding='utf-8', errors='replace').splitlines()


def _processor() -> str:
    """Describe the processor: a library for one may not run on another."""
    described = [platform.machine(), platform.processor()]
    identifying = {
        x for x in _processor_lines() if x.startswith(('flags', 'Features', 'model name'))
    }
    return '\n'.join([*described, *sorted(identifying)])


def _command(compiler: str, flags: Sequence[str]) -> list[str]:
    # torch brings GCC's OpenMP, whose threads it keeps awake. The threads of a second OpenMP
    # (clang's) would fight with them for the processor.
    openmp = '-fopenmp-simd' if 'clang' in Path(compiler).name else '-fopenmp'
    return [compiler, *FLAGS, *flags, openmp]


def _refuse_shared(folder: Path) -> None:
    # The library is code that runs: nobody else may put a file there.
    found = folder.stat()
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o022:
        raise NativeError(
            f'other users can write to {folder}, from where code would be loaded; make it your '
            'own (chmod go-w), or set XDG_CACHE_HOME to a folder that is'
        )


def main() -> int:
    """Compile the libraries of an installation; return 0 even where that fails, with a warning.

    Without them the passes are compiled on first use, or torch does their work.
    """
    parser = argparse.ArgumentParser(description='Compile the attention passes.')
    parser.add_argument('output', type=Path, help='folder for the shared libraries')
    parser.add_argument('--machine', help='architecture, as `uname -m` says it')
    parser.add_argument('--compiler', help='C++ compiler')
    arguments = parser.parse_args()
    try:
        compile_levels(
            arguments.output, machine=arguments.machine or None, compiler=arguments.compiler
        )
    except (NativeError, OSError) as error:
        print(f'warning: attention passes were not compiled: {error}', file=sys.stderr)
    return 0


if __name__ == '__main__':
    sys.exit(main())
