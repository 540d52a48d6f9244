# SPDX-License-Identifier: Apache-2.0
"""The identity of clips: digests of the files that they come from.

A cache of tokens, features or frame rates belongs to the content of its videos and bags, not to
their names. Another video under the same name has another digest.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from step_ros.datasets.clip import ClipRecord
from step_ros.io.bags.metadata import COMPRESSED, METADATA, SUFFIXES

# sqlite's side files: they may hold messages of a bag.
_SIDE_FILES = ('-wal', '-journal')

# Files that are read at once. Hashing releases Python's lock.
_THREADS = 4

# Name, bytes, inode and times of content and attributes of each file.
SourceState = tuple[tuple[str, int, int, int, int], ...]

_digests: dict[tuple[Path, SourceState], str] = {}


def source_state(path: Path) -> SourceState:
    """Return a cheap description of a source's files; it differs once a file was replaced.

    Files that cannot be read are left out.

    Args:
        path: A video, a bag (its folder or its only file), or a folder of images.
    """
    found = []
    for file in _files(path):
        try:
            status = file.stat()
        except OSError:
            continue
        found.append(
            (str(file), status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        )
    return tuple(found)


def source_digest(path: Path) -> str:
    """Return a digest of the content of a source, `sha256:` and hexadecimal digits.

    A process reads each file once, and again only if it was replaced. A file that cannot be read
    has no content: its source gets another digest once it can be read.

    Args:
        path: A video, a bag (its folder or its only file), or a folder of images.
    """
    key = (path.absolute(), source_state(path))
    if key not in _digests:
        _digests[key] = _digest_of(path)
    return _digests[key]


def source_digests(paths: Iterable[Path]) -> dict[Path, str]:
    """Return `source_digest` of many sources; clips of one video share one digest."""
    different = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(different, pool.map(source_digest, different), strict=True))


def clips_digest(records: Iterable[ClipRecord]) -> str:
    """Return a digest of clips: their names, and the content of their sources.

    It does not depend on the order of the clips, nor on the folder that holds them.
    """
    records = list(records)
    digests = source_digests(record.video for record in records)
    lines = sorted(
        repr((record.clip_id, digests[record.video], record.topic, record.span))
        for record in records
    )
    return f'sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}'


def _digest_of(path: Path) -> str:
    # Imported late: it needs torch, which reading videos and bags does not.
    from step_ros.model.weights import file_digest

    parts = []
    for file in _files(path):
        # The name of a single file is no part of its content. In a bag or a folder of images,
        # names say which file comes first.
        inside = path.is_dir()
        name = file.relative_to(path).as_posix() if inside else file.name[len(path.name) :]
        try:
            parts.append((name, file_digest(file)))
        except OSError as error:
            parts.append((name, f'not readable: {error.strerror}'))
    return f'sha256:{hashlib.sha256(repr(parts).encode()).hexdigest()}'


def _files(path: Path) -> list[Path]:
    """Return the files that hold a source's content, in a fixed order."""
    if not path.is_dir():
        sides = [path.with_name(path.name + suffix) for suffix in _SIDE_FILES]
        return [path, *(side for side in sides if side.is_file())]
    if not (path / METADATA).is_file():
        return sorted(file for file in path.rglob('*') if file.is_file())
    return sorted(file for file in path.iterdir() if file.is_file() and _is_stored(file.name))


def _is_stored(name: str) -> bool:
    for suffix in _SIDE_FILES:
        name = name.removesuffix(suffix)
    return name == METADATA or name.removesuffix(COMPRESSED).endswith(SUFFIXES)
