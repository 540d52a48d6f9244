# SPDX-License-Identifier: Apache-2.0
"""Files: their names on disk, atomic writing, and the base class of resources to be closed."""

import shutil
import unicodedata
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

_Resource = TypeVar('_Resource', bound='Closing')

# First bytes of the small files that stand for large ones in a repository without its data.
_POINTERS = {
    b'version https://git-lfs.github.com/spec/': 'a Git LFS pointer, not the file itself: run '
    '`git lfs pull` in its repository',
    b'/annex/objects/': 'a git-annex pointer, not the file itself: run `git annex get` in its '
    'repository',
}


def expand_home(path: str | Path) -> Path:
    """Return a path with a leading `~` replaced by the home folder.

    A tilde also begins names of files, such as backups. It stays where a file has this name, or
    where there is no such home.
    """
    path = Path(path)
    if path.exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def find_spelled(path: Path) -> Path:
    """Return a path as the disk spells it, where only the Unicode form of names differs.

    macOS writes an umlaut in a file name as two characters (NFD), an editor as one (NFC). An
    exact name goes first. The path stays as it is if no name fits, or several do.
    """
    if path.exists() or str(path).isascii():
        return path
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if (found / part).exists():
            found /= part
            continue
        try:
            names = [entry.name for entry in found.iterdir() if same_text(entry.name, part)]
        except OSError:
            return path
        if len(names) != 1:
            return path
        found /= names[0]
    return found


def same_text(one: str, other: str) -> bool:
    """Return whether two texts differ at most in their Unicode form (NFC or NFD)."""
    return unicodedata.normalize('NFC', one) == unicodedata.normalize('NFC', other)


def pointer_kind(path: Path) -> str:
    """Return what a file is, and the mend, if it only points to the file that it stands for.

    Empty for any other file, and for a file that cannot be read.
    """
    try:
        with path.open('rb') as file:
            start = file.read(max(len(known) for known in _POINTERS))
    except OSError:
        return ''
    return next((kind for known, kind in _POINTERS.items() if start.startswith(known)), '')


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` for writing, then move it to `path`.

    A reader sees the old file or the complete new one, never a part of it. If the block raises,
    `path` stays unchanged and the new file is removed.

    Args:
        path: The file to write. Its folder is made if it is missing.

    Raises:
        OSError: The folder cannot be made, or the file cannot be moved.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Video writers and numpy choose the format by the suffix, so it must stay last.
    partial = path.with_name(f'{path.stem}.partial{path.suffix}')
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` for filling, then move it to `path`.

    A reader never sees a partly filled folder. If the block raises, the new folder is removed.

    Args:
        path: The folder to make. It must not exist, or must be empty.

    Raises:
        OSError: The folder cannot be made or moved, for example because `path` is not empty.
    """
    partial = path.with_name(f'{path.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Closing(AbstractContextManager):  # type: ignore[type-arg]
    """A resource whose `close` method is called at the end of a `with` statement."""

    def __enter__(self: _Resource) -> _Resource:
        """Return the resource itself; without this, type checkers lose its type."""
        return self

    @abstractmethod
    def close(self) -> None:
        """Free the resource; a second call does nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the resource, after an exception too."""
        self.close()
