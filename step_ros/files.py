"""Atomic writing of files and folders, and the base class of resources that must be closed."""

import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

_Resource = TypeVar('_Resource', bound='Closing')


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
