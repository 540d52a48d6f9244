"""What all dataset readers share: problems, options, finding files, reading tables."""

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from step_ros.datasets.clip import ClipRecord, Span, Unit
from step_ros.datasets.schema import DatasetConfig, Split, repeated
from step_ros.io.errors import DatasetError

ProblemKind = Literal[
    'missing video', 'undecodable video', 'unknown label', 'bad span', 'bad value', 'duplicate'
]


# What a decoder puts where bytes are no text.
NO_TEXT = '\ufffd'


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong in the data; what it concerns was left out, nothing was guessed.

    Attributes:
        kind: What sort of problem.
        file: Where it stands; the video itself where it stands in no annotation file.
        row: Line of the file, or place in its list, from 1; 0 where that says nothing.
        field: Column, key or part of the name.
        value: What stands there.
        expected: What should.
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
    """A choice that a reader leaves open.

    Attributes:
        name: Keyword of `read_dataset`.
        default: What is taken without it.
        help: What it decides.
        one_of: The choices: the configuration's views (and `all`), its splits, or any text.
    """

    name: str
    default: str
    help: str
    one_of: Literal['views', 'splits', 'text'] = 'text'

    def choices(self, config: DatasetConfig | None) -> tuple[str, ...]:
        """List what may be chosen; empty for any text."""
        if config is None or self.one_of == 'text':
            return ()
        if self.one_of == 'views':
            return (*(view.name for view in config.views), 'all')
        return tuple(split.name for split in config.splits)


@dataclass(kw_only=True)
class Reading:
    """A dataset while it is being read.

    Attributes:
        root: Its folder.
        known: Its configuration; None until the reader finds out what the data says.
        options: Value of each of the reader's options.
        records: Clips so far, by their names.
        problems: What was wrong so far.
        left_out: How many entries were left out on purpose, by reason.
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
        """The configuration, which is known by now."""
        if self.known is None:
            raise RuntimeError('the reader has not set the configuration yet')
        return self.known

    def views(self) -> tuple[str, ...]:
        """Return the views chosen by the option `view`."""
        chosen = self.options['view']
        return tuple(view.name for view in self.config.views) if chosen == 'all' else (chosen,)

    def validation(self, option: str, split: Split) -> tuple[int, ...]:
        """Return the numbers of a split's training part that an option, as `1,2`, sets apart.

        Raises:
            DatasetError: It holds something else.
        """
        if option not in self._validation:
            text = self.options[option]
            try:
                numbers = tuple(int(part) for part in text.split(',') if part.strip())
            except ValueError as error:
                raise DatasetError(
                    f'option {option}={text!r}: expected numbers as 1,2,3'
                ) from error
            for number in numbers:
                if split.part_of(number) != 'train':
                    raise DatasetError(
                        f'option {option}={text!r}: {split.unit} {number} does not train in split '
                        f'{split.name}; expected some that do'
                    )
            self._validation[option] = numbers
        return self._validation[option]

    def add(self, record: ClipRecord, *, file: Path, row: int = 0) -> None:
        """Take a clip, unless its name is taken or its video missing: then that is a problem."""
        if record.clip_id in self.records:
            self.complain(
                'duplicate', file, row, 'clip', record.clip_id, 'each clip once; the first is kept'
            )
        elif not self.is_file(record.video):
            # Once for each video: it may hold hundreds of clips.
            if record.video in self._missing:
                self.left_out['further clips of missing videos'] += 1
            else:
                self._missing.add(record.video)
                self.complain('missing video', file, row, 'video', record.video, 'a file there')
        else:
            self.records[record.clip_id] = record

    def complain(
        self, kind: ProblemKind, file: Path, row: int, name: str, value: object, expected: str
    ) -> None:
        """Note a problem; its attributes in their order."""
        self.problems.append(
            Problem(kind=kind, file=file, row=row, field=name, value=str(value), expected=expected)
        )

    def is_file(self, path: Path) -> bool:
        """Whether a file is there; each folder is listed once, which is quick for many files."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            try:
                with os.scandir(folder) as entries:
                    found = frozenset(entry.name for entry in entries if entry.is_file())
            except OSError:
                found = frozenset()
            self._folders[folder] = found
        return name in self._folders[folder]

    def table(
        self, path: Path, columns: tuple[str, ...], *, header: bool = True
    ) -> Iterator[tuple[int, dict[str, str]]]:
        """Read a CSV file row by row, each with its line number; cells are stripped.

        A row with too few or too many cells, or that is no text, is a problem.

        Args:
            path: The file.
            columns: Those that must be there; all of them, where there is no header.
            header: Whether the first line names the columns.

        Raises:
            DatasetError: It is missing, unreadable or lacks a column.
        """
        try:
            with path.open(encoding='utf-8-sig', errors='replace', newline='') as file:
                reader = csv.reader(file)
                names = [name.strip() for name in next(reader, [])] if header else [*columns]
                _check_columns(path, columns, names)
                for cells in reader:
                    row = reader.line_num
                    text = ','.join(cells)
                    if not any(cells):
                        continue
                    if len(cells) != len(names):
                        expected = f'{len(names)} cells: {",".join(names)}'
                        self.complain('bad value', path, row, 'row', text, expected)
                    elif NO_TEXT in text:
                        self.complain('bad value', path, row, 'row', text, 'UTF-8 text')
                    else:
                        yield row, {n: cell.strip() for n, cell in zip(names, cells, strict=True)}
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
        """Make a span of what a table says; None, and a problem, where that is none."""
        values = []
        for name, text in zip(fields, (start, end), strict=True):
            try:
                values.append(convert(text))
            except ValueError:
                self.complain('bad span', file, row, name, text, f'a number of {unit}')
                return None
        try:
            return Span(start=values[0], end=values[1], unit=unit)
        except ValueError:
            self.complain(
                'bad span', file, row, ', '.join(fields), f'{start}, {end}', '0 <= start < end'
            )
            return None


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file.

    Raises:
        DatasetError: It is missing or unreadable.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise DatasetError(_unreadable(path, error, expected)) from error


def _check_columns(path: Path, columns: Sequence[str], names: Sequence[str]) -> None:
    for column in columns:
        if column not in names:
            found = ', '.join(names) or 'none'
            raise DatasetError(f'{path}: column {column!r} is missing; found {found}')
    if again := repeated(names):
        raise DatasetError(f'{path}: columns {again} stand there twice; expected each once')


def _unreadable(path: Path, error: Exception, expected: str) -> str:
    why = 'there is no such file' if isinstance(error, FileNotFoundError) else f'{error}'
    return f'{path}: {why}; expected {expected}'
