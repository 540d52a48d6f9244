"""Files that appear whole or not at all, and things that must be closed."""

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
    """Write a file whole or not at all: yield a path beside `path`, then move it to `path`.

    A reader sees the old file or the new one, never half of it. If the block raises, `path` stays
    as it was and what was written is removed.

    Args:
        path: The file to write. Its folder is made if it is missing.

    Raises:
        OSError: The folder cannot be made, or the file cannot be moved.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: video writers and numpy choose the format by it.
    partial = path.with_name(f'{path.stem}.partial{path.suffix}')
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Fill a folder whole or not at all: yield a new folder beside `path`, then move it to `path`.

    If the block raises, the new folder is removed.

    Args:
        path: The folder to make. It must not exist, or be empty.

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
    """A resource with a `close` method that a `with` statement calls at its end."""

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
        """Close the resource, whatever happened."""
        self.close()
