# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the dataset readers: problems, options, file checks and tables."""

import codecs
import csv
import io
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from step_ros.datasets.clip import ClipRecord, Span, Unit
from step_ros.datasets.schema import DatasetConfig, Split, repeated
from step_ros.files import find_spelled, pointer_kind
from step_ros.io.errors import DatasetError

ProblemKind = Literal[
    'missing video', 'undecodable video', 'unknown label', 'bad span', 'bad value', 'duplicate'
]


# Marks at the beginning of UTF-16 text.
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


# What is expected of a row with other bytes.
NO_UTF_8 = (
    'UTF-8 text; these bytes look like Windows-1252 (or Latin-1): save the file as "CSV UTF-8", '
    'or run iconv -f WINDOWS-1252 -t UTF-8'
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A wrong entry of the data; the reader leaves it out and never guesses a value.

    Attributes:
        kind: Kind of problem.
        file: The annotation file, or the video if no annotation file is wrong.
        row: Line of the file, or place in its list, from 1; 0 for none.
        field: Column, key or part of the name.
        value: The wrong value.
        expected: Description of a correct value.
    """

    kind: ProblemKind
    file: Path
    row: int
    field: str
    value: str
    expected: str

    def __str__(self) -> str:
        place = f'{self.file}:{self.row}' if self.row else str(self.file)
        return f'{place}: {self.field} {self.value!r}: expected {self.expected}'


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a reader.

    Attributes:
        name: Keyword of `read_dataset`.
        default: Value if the user gives none.
        help: Meaning of the option.
        one_of: Allowed values: the configuration's views (and `all`), its splits, or any text.
    """

    name: str
    default: str
    help: str
    one_of: Literal['views', 'splits', 'text'] = 'text'

    def choices(self, config: DatasetConfig | None) -> tuple[str, ...]:
        """Return the allowed values; empty for any text."""
        if config is None or self.one_of == 'text':
            return ()
        if self.one_of == 'views':
            return (*(view.name for view in config.views), 'all')
        return tuple(split.name for split in config.splits)


@dataclass(kw_only=True)
class Reading:
    """A dataset while a reader fills it.

    Attributes:
        root: Folder of the dataset.
        known: Configuration; None until the reader has derived it from the data.
        options: Value of each of the reader's options.
        records: Clips so far, by name.
        problems: Problems so far.
        left_out: Number of entries left out on purpose, by reason.
    """

    root: Path
    known: DatasetConfig | None
    options: Mapping[str, str]
    records: dict[str, ClipRecord] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    _folders: dict[str, frozenset[str]] = field(default_factory=dict)
    _missing: set[Path] = field(default_factory=set)
    _validation: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def config(self) -> DatasetConfig:
        """The configuration.

        Raises:
            RuntimeError: The reader has not set it yet.
        """
        if self.known is None:
            raise RuntimeError('the reader has not set the configuration yet')
        return self.known

    def views(self) -> tuple[str, ...]:
        """Return the views that the option `view` selects."""
        chosen = self.options['view']
        return tuple(view.name for view in self.config.views) if chosen == 'all' else (chosen,)

    def validation(self, option: str, split: Split) -> tuple[int, ...]:
        """Return the numbers of a split's training part that an option reserves for validation.

        Args:
            option: Name of the option; its value is a list such as `1,2`.
            split: The split.

        Raises:
            DatasetError: The option is no list of numbers of the training part.
        """
        if option not in self._validation:
            text = self.options[option]
            try:
                numbers = tuple(int(part) for part in text.split(',') if part.strip())
            except ValueError as error:
                raise DatasetError(
                    f'option {option}={text!r}: expected numbers, for example 1,2,3'
                ) from error
            for number in numbers:
                if split.part_of(number) != 'train':
                    raise DatasetError(
                        f'option {option}={text!r}: {split.unit} {number} does not train in split '
                        f'{split.name}; expected numbers of its training part'
                    )
            self._validation[option] = numbers
        return self._validation[option]

    def add_clip(self, record: ClipRecord, *, file: Path, row: int = 0) -> None:
        """Add a clip, or note a problem if its name exists already or its video is missing.

        The video's name may have another Unicode form on disk (NFC or NFD).
        """
        if not self.is_file(record.video):
            record = replace(record, video=find_spelled(record.video))
        if record.clip_id in self.records:
            self.add_problem(
                'duplicate', file, row, 'clip', record.clip_id, 'each clip once; the first is kept'
            )
        elif not self.is_file(record.video):
            # Noted once for each video, because a video may hold hundreds of clips.
            if record.video in self._missing:
                self.left_out['further clips of missing videos'] += 1
            else:
                self._missing.add(record.video)
                self.add_problem(
                    'missing video', file, row, 'video', record.video, 'an existing file'
                )
        else:
            self.records[record.clip_id] = record

    def add_problem(
        self, kind: ProblemKind, file: Path, row: int, name: str, value: object, expected: str
    ) -> None:
        """Note a problem; the arguments are the attributes of `Problem`."""
        self.problems.append(
            Problem(kind=kind, file=file, row=row, field=name, value=str(value), expected=expected)
        )

    def first_problem(self) -> str:
        """Return the end of an error message: the number of problems and the first of them."""
        count = len(self.problems)
        return f'; {count} problems, the first: {self.problems[0]}' if count else ''

    def is_file(self, path: Path) -> bool:
        """Return whether a file exists; each folder is listed only once, for speed."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            try:
                # Of a path without a folder, `split` gives an empty one: the current folder.
                with os.scandir(folder or '.') as entries:
                    found = frozenset(entry.name for entry in entries if entry.is_file())
            except OSError:
                found = frozenset()
            self._folders[folder] = found
        return name in self._folders[folder]

    def table(
        self, path: Path, columns: tuple[str, ...], *, header: bool = True
    ) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the rows of a CSV file: line number, and stripped cells by column.

        A row with too few or too many cells, or with bytes that are no UTF-8 text, is a problem.
        All cells but those of `video` come in one Unicode form (NFC), so that labels compare.

        Args:
            path: The file.
            columns: Required columns; all columns if the file has no header.
            header: Whether the first line names the columns.

        Raises:
            DatasetError: The file is missing, unreadable, of another text encoding or lacks a
                column.
        """
        try:
            # Bytes that are no UTF-8 become surrogates, which `_as_windows_1252` turns back.
            reader = csv.reader(io.StringIO(_text_of(path, columns), newline=''))
            names = [_plain(name) for name in next(reader, [])] if header else [*columns]
            _check_columns(path, columns, names)
            for cells in reader:
                row = reader.line_num
                text = ','.join(cells)
                if not any(cells):
                    continue
                if not _is_text(text):
                    shown = _as_windows_1252(text)
                    self.add_problem('bad value', path, row, 'row', shown, NO_UTF_8)
                elif len(cells) != len(names):
                    expected = f'{len(names)} cells: {",".join(names)}'
                    self.add_problem('bad value', path, row, 'row', text, expected)
                else:
                    pairs = zip(names, cells, strict=True)
                    yield (
                        row,
                        {n: cell.strip() if n == 'video' else _plain(cell) for n, cell in pairs},
                    )
        except (OSError, csv.Error) as error:
            expected = f'a CSV file with the columns {", ".join(columns)}'
            raise DatasetError(_unreadable(path, error, expected)) from error

    def span(
        self,
        start: str,
        end: str,
        *,
        unit: Unit,
        file: Path,
        row: int,
        fields: tuple[str, str],
        convert: Callable[[str], float],
    ) -> Span | None:
        """Return the span between two cells; None, after noting a problem, if they give none.

        Args:
            start: Text of the start.
            end: Text of the end.
            unit: Unit of both.
            file: The annotation file.
            row: Line of the file, from 1.
            fields: Columns of start and end.
            convert: Turns a text into a number; raises ValueError for a wrong text.
        """
        values = []
        for name, text in zip(fields, (start, end), strict=True):
            try:
                values.append(convert(text))
            except ValueError:
                self.add_problem('bad span', file, row, name, text, f'a number of {unit}')
                return None
        try:
            return Span(start=values[0], end=values[1], unit=unit)
        except ValueError:
            self.add_problem(
                'bad span', file, row, ', '.join(fields), f'{start}, {end}', '0 <= start < end'
            )
            return None


def read_json(path: Path, expected: str) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        expected: Description of a correct content, for the error message.

    Raises:
        DatasetError: The file is missing or unreadable.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        if kind := pointer_kind(path):
            raise DatasetError(f'{path}: {kind}; expected {expected}') from error
        raise DatasetError(_unreadable(path, error, expected)) from error


def _text_of(path: Path, columns: Sequence[str]) -> str:
    """Return the text of a CSV file; bytes that are no UTF-8 become surrogates.

    Raises:
        DatasetError: The file holds UTF-16 text, or stands for another file.
        OSError: The file is missing or unreadable.
    """
    content = path.read_bytes()
    expected = f'a CSV file with the columns {", ".join(columns)}'
    if kind := pointer_kind(path):
        raise DatasetError(f'{path}: {kind}; expected {expected}')
    if content.startswith(_UTF_16) or b'\0' in content:
        raise DatasetError(
            f'{path}: it holds UTF-16 text or zero bytes; expected UTF-8 text with commas between '
            'the cells: save it as "CSV UTF-8", or run iconv -f UTF-16 -t UTF-8'
        )
    return content.decode('utf-8-sig', errors='surrogateescape')


def _is_text(text: str) -> bool:
    # U+FFFD stands for a byte that an earlier program could not decode.
    return '\ufffd' not in text and not any('\ud800' <= letter <= '\udfff' for letter in text)


def _as_windows_1252(text: str) -> str:
    """Return a row as Windows-1252 shows its bytes, to find it in the file."""
    return text.encode('utf-8', 'surrogateescape').decode('cp1252', 'replace')


def _plain(cell: str) -> str:
    return unicodedata.normalize('NFC', cell.strip())


def _check_columns(path: Path, columns: Sequence[str], names: Sequence[str]) -> None:
    for name in names:
        if not _is_text(name):
            raise DatasetError(f'{path}: column {_as_windows_1252(name)!r}: expected {NO_UTF_8}')
    for column in columns:
        if column not in names:
            found = ', '.join(names) or 'none'
            other = next((mark for mark in ';\t|' if any(mark in name for name in names)), '')
            mend = f'; expected commas between the cells, not {other!r}' if other else ''
            raise DatasetError(f'{path}: column {column!r} is missing; found {found}{mend}')
    if again := repeated(names):
        raise DatasetError(f'{path}: columns {again} occur twice; expected each column once')


def _unreadable(path: Path, error: Exception, expected: str) -> str:
    why = 'there is no such file' if isinstance(error, FileNotFoundError) else f'{error}'
    return f'{path}: {why}; expected {expected}'
