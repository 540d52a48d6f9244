# SPDX-License-Identifier: Apache-2.0
"""Check outputs before the work: a path that cannot be written costs a line, not hours.

`output_file`, `output_folder` and `output_bundle` are callbacks of options and arguments: typer
calls them before the verb begins.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console
from rich.text import Text

_Output = TypeVar('_Output', Path, Path | None)


class OutputError(ValueError):
    """An output cannot be written; the message names the path, the reason and the mend."""


def output_file(path: _Output) -> _Output:
    """Return the path of a file to write; print a line and exit with 1 if that is impossible."""
    return _checked(path, check_file)


def output_folder(path: _Output) -> _Output:
    """Return the path of a folder to fill; print a line and exit with 1 if that is impossible."""
    return _checked(path, check_folder)


def output_bundle(path: _Output) -> _Output:
    """Return the path of a folder that is made beside its place and moved there, as a bundle is.

    Print a line and exit with 1 if that is impossible.
    """
    return _checked(path, check_bundle)


def check_file(path: Path) -> None:
    """Check that a file can be written. An existing file keeps its content.

    Raises:
        OutputError: The file cannot be written.
    """
    mode = _mode(path)
    if mode is None:
        _check_place(path, path.parent)
    elif stat.S_ISDIR(mode):
        raise OutputError(f'{path}: a folder; expected the name of a file to write')
    elif stat.S_ISREG(mode):
        try:
            path.open('ab').close()
        except OSError as error:
            raise _cannot_write(path, error) from error
        # Other files, such as /dev/stdout, are not opened: that may wait for a reader.


def check_folder(path: Path) -> None:
    """Check that a folder exists or can be made, and that files can be made in it.

    Raises:
        OutputError: The folder cannot be filled.
    """
    mode = _mode(path)
    if mode is not None and not stat.S_ISDIR(mode):
        raise OutputError(f'{path}: a file; expected the name of a folder to fill')
    _check_place(path, path)


def check_bundle(path: Path) -> None:
    """Check that a folder can be made beside its place and moved there.

    Raises:
        OutputError: The folder cannot be made.
    """
    check_folder(path)
    _check_place(path, path.absolute().parent)


def _checked(path: _Output, check: Callable[[Path], None]) -> _Output:
    if path is not None:
        try:
            check(path)
        except OutputError as error:
            # Not markup: the path may hold brackets.
            Console(markup=False, emoji=False).print(Text(str(error), style='red'), soft_wrap=True)
            raise typer.Exit(1) from error
    return path


def _mode(path: Path) -> int | None:
    """Return kind and permissions of what is at a path; None for nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError as error:
        if path.is_symlink():
            raise OutputError(
                f'{path}: a link to {os.readlink(path)}, which does not exist; remove the link or '
                'choose another path'
            ) from error
        return None
    except OSError as error:
        raise _cannot_write(path, error) from error


def _check_place(path: Path, folder: Path) -> None:
    """Check that files can be made in a folder, or in the nearest one above it that exists."""
    folder = folder.absolute()
    while _mode(folder) is None:
        folder = folder.parent
    try:
        # Permissions do not say enough: a file system may be read-only, or root may write.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_write(path, error, folder) from error


def _cannot_write(path: Path, error: OSError, folder: Path | None = None) -> OutputError:
    if error.errno == errno.ENOTDIR:
        parents = [each for each in path.absolute().parents if each.is_file()]
        if parents:
            return OutputError(
                f'{path}: cannot be written: {parents[0]} is a file, not a folder; choose another '
                'path'
            )
    where = '' if folder is None or folder == path.absolute() else f' in {folder}'
    reason = (error.strerror or str(error)).lower()
    return OutputError(f'{path}: cannot be written{where}: {reason}; choose another path')
