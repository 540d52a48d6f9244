"""What `config/datasets/*.yaml` may say: a dataset's labels, pairs, views, splits and protocol."""

import re
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from step_ros.io.errors import DatasetError
from step_ros.resources import share_directory
from step_ros.schema import StrictModel

# ---- The labels of a dataset's task: pairs, mirrors, misspellings, derivation from another task.

Count = Annotated[int, Field(strict=True, gt=0)]

Label = Annotated[str, Field(min_length=1, pattern=r'^\S(.*\S)?$')]

Pair = tuple[Label, Label]

_T = TypeVar('_T', bound=Hashable)


class TaskConfig(StrictModel):
    """The labels of one task, and how they are related."""

    name: Label
    classes: Count = Field(description='how many labels there are; guards against a lost line')
    labels: tuple[Label, ...] = Field(min_length=2, description='in the published order')
    pairs: tuple[Pair, ...] = Field(
        default=(), description='nearly symmetric labels, each pair once'
    )
    mirrors: tuple[Pair, ...] = Field(
        default=(), description='labels that a horizontal flip exchanges, each pair once'
    )
    no_flip: tuple[Label, ...] = Field(
        default=(), description='labels whose clips must not be flipped: they have no mirror'
    )
    aliases: dict[Label, Label] = Field(
        default_factory=dict, description='misspellings that circulate, and what they mean'
    )
    ignored: tuple[Label, ...] = Field(
        default=(), description='labels of the annotation files that are no classes'
    )
    derived_from: Label | None = Field(default=None, description='the task it follows from')
    derivation: dict[Label, tuple[Label, ...]] = Field(
        default_factory=dict, description="for each label, those of the other task's"
    )

    @model_validator(mode='after')
    def _check(self) -> 'TaskConfig':
        self._check_labels()
        self._check_pairs('pairs', self.pairs)
        self._check_pairs('mirrors', self.mirrors)
        mirrored = {label for pair in self.mirrors for label in pair}
        for label in self.no_flip:
            self._check_known('no_flip', label)
            if label in mirrored:
                raise ValueError(f'no_flip: {label!r} has a mirror: remove it from one of them')
        for label in self.labels:
            if names_a_side(label) and label not in mirrored and label not in self.no_flip:
                raise ValueError(
                    f'labels: {label!r} names a side: give its mirror, or list it under no_flip'
                )
        return self

    def _check_labels(self) -> None:
        if again := repeated(self.labels):
            raise ValueError(f'labels: {again} stand there twice')
        if len(self.labels) != self.classes:
            raise ValueError(f'labels: {len(self.labels)} found, but classes is {self.classes}')
        for wrong, label in self.aliases.items():
            self._check_known('aliases', label)
            if wrong in self.labels:
                raise ValueError(f'aliases: {wrong!r} is itself a label')
        for label in self.ignored:
            if label in self.labels or label in self.aliases:
                raise ValueError(f'ignored: {label!r} is a label')
        if (self.derived_from is None) != (not self.derivation):
            raise ValueError('derived_from and derivation belong together')

    def _check_pairs(self, field: str, pairs: Sequence[Pair]) -> None:
        for label in (label for pair in pairs for label in pair):
            self._check_known(field, label)
        if again := repeated([label for pair in pairs for label in pair]):
            raise ValueError(f'{field}: {again} stand in more than one place')

    def _check_known(self, field: str, label: str) -> None:
        if label not in self.labels:
            raise ValueError(f'{field}: {label!r} is no label of task {self.name!r}')

    @cached_property
    def counterparts(self) -> Mapping[str, str]:
        """Nearly symmetric partner of a label, both ways; the form of a bundle's task."""
        return _both_ways(self.pairs)

    @cached_property
    def _mirror_of(self) -> Mapping[str, str]:
        return _both_ways(self.mirrors)

    @cached_property
    def _source_of(self) -> Mapping[str, str]:
        return {source: label for label, sources in self.derivation.items() for source in sources}

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.labels)

    @property
    def nonsymmetric(self) -> tuple[str, ...]:
        """The labels without a nearly symmetric partner."""
        return tuple(label for label in self.labels if label not in self.counterparts)

    def flipped(self, label: str) -> str | None:
        """Return what a label becomes by a horizontal flip; None where there must be none."""
        return None if label in self.no_flip else self._mirror_of.get(label, label)

    def find(self, written: str) -> str | None:
        """Return the label that an annotation file means; None where it is none of them."""
        written = self.aliases.get(written, written)
        return written if written in self._known else None

    def derive(self, label: str) -> str:
        """Return the label that follows from one of the task it is derived from."""
        return self._source_of[label]


def names_a_side(label: str) -> bool:
    """Whether the words of a label, also of a joined one, hold left or right."""
    words = re.findall(r'[A-Z]?[a-z]+|[A-Z]+', label)
    return not {'left', 'right'}.isdisjoint(word.lower() for word in words)


def repeated(values: Sequence[_T]) -> list[_T]:
    """Return the values that stand in a list for the second time or more."""
    seen: set[_T] = set()
    again = []
    for value in values:
        if value in seen:
            again.append(value)
        seen.add(value)
    return again


def _both_ways(pairs: Sequence[Pair]) -> dict[str, str]:
    return {label: other for one, two in pairs for label, other in ((one, two), (two, one))}


Number = Annotated[int, Field(strict=True, ge=0)]

Part = Literal['train', 'val', 'test']


class View(StrictModel):
    """A camera."""

    name: str = Field(description='as in the file names; empty where there is only one')
    meaning: str = Field(min_length=1)


class Split(StrictModel):
    """Which clips train, which validate and which test."""

    name: Label
    unit: Literal['files', 'group', 'subject', 'setup', 'environment'] = Field(
        description='what the numbers count; files: the dataset lists the clips itself'
    )
    train: tuple[Number, ...] = ()
    val: tuple[Number, ...] = ()
    test: tuple[Number, ...] = ()
    rest: Part | None = Field(default=None, description='where numbers go that are not listed')
    members: dict[Number, tuple[Number, ...]] = Field(
        default_factory=dict, description='what a file name says instead of each number'
    )
    note: str = ''

    @model_validator(mode='after')
    def _check(self) -> 'Split':
        if again := repeated([*self.train, *self.val, *self.test]):
            raise ValueError(f'split {self.name!r}: {again} stand in more than one place')
        if again := repeated([number for some in self.members.values() for number in some]):
            raise ValueError(f'split {self.name!r}: members: {again} stand there twice')
        listed = bool(self.train or self.val or self.test)
        if listed == (self.unit == 'files'):
            raise ValueError(f'split {self.name!r}: unit files lists no numbers, the others do')
        return self

    def number_of(self, member: int) -> int | None:
        """Return the number that a file name's one belongs to; None where it is unknown."""
        if not self.members:
            return member
        return next((number for number, some in self.members.items() if member in some), None)

    def part_of(self, number: int, validation: Sequence[int] = ()) -> Part | None:
        """Return the part of a number; None where the split does not say.

        Args:
            number: Group, subject, setup or environment.
            validation: Numbers of the training part that validate instead.
        """
        parts: tuple[tuple[Part, Sequence[int]], ...] = (
            ('train', self.train),
            ('val', self.val),
            ('test', self.test),
        )
        if self.members and number not in self.members:
            return None
        found = next((part for part, numbers in parts if number in numbers), self.rest)
        return 'val' if found == 'train' and number in validation else found


class Evaluation(StrictModel):
    """How the papers sample a clip at test time."""

    sampling: Literal['interval', 'segments']
    frames: Count = Field(description='T, frames in a window')
    interval: Count | None = Field(default=None, description='every how many frames one is taken')
    clips: Count = Field(description='windows over time whose answers are averaged')
    crops: Count = Field(default=1, description='parts of the image, likewise')
    trained_view: str | None = Field(
        default=None, description='the view trained on where unseen ones are tested'
    )

    @model_validator(mode='after')
    def _check(self) -> 'Evaluation':
        if (self.interval is None) != (self.sampling == 'segments'):
            raise ValueError('sampling interval wants an interval, sampling segments none')
        return self


class Unknown(StrictModel):
    """Something that is not publicly known, and what is done instead."""

    what: str = Field(min_length=1)
    default: str = Field(min_length=1)
    option: str = Field(default='', description="the reader's option that changes it")


class DatasetConfig(StrictModel):
    """Everything in a dataset's file."""

    name: Label
    title: str = Field(min_length=1)
    source: str = ''
    license: str = ''
    clips: Count | None = Field(default=None, description='how many are published')
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    views: tuple[View, ...] = Field(min_length=1)
    splits: tuple[Split, ...] = Field(min_length=1)
    evaluation: Evaluation
    unknown: tuple[Unknown, ...] = ()

    @model_validator(mode='after')
    def _check(self) -> 'DatasetConfig':
        fields = (('tasks', self.tasks), ('views', self.views), ('splits', self.splits))
        for field, entries in fields:
            if again := repeated([entry.name for entry in entries]):
                raise ValueError(f'{field}: {again} stand there twice')
        if self.evaluation.trained_view not in {None, *(view.name for view in self.views)}:
            raise ValueError(f'evaluation: {self.evaluation.trained_view!r} is no view')
        given = {task.name: task for task in self.tasks if task.derived_from is None}
        for task in self.tasks:
            if task.derived_from is not None:
                _check_derivation(task, given)
        return self

    def task(self, name: str) -> TaskConfig:
        """Return a task by its name.

        Raises:
            DatasetError: There is none of that name.
        """
        return _named('task', name, self.tasks, self.name)

    def split(self, name: str) -> Split:
        """Return a split by its name.

        Raises:
            DatasetError: There is none of that name.
        """
        return _named('split', name, self.splits, self.name)

    def all_labels(self, given: Mapping[str, str]) -> dict[str, str]:
        """Add the labels of derived tasks to those of the others."""
        return {
            task.name: task.derive(given[task.derived_from])
            if task.derived_from is not None
            else given[task.name]
            for task in self.tasks
        }


def load_dataset_config(name_or_path: str | Path) -> DatasetConfig:
    """Read a dataset's configuration: one that ships, by name, or a YAML file.

    Raises:
        DatasetError: It is missing, unreadable or breaks the schema; says which field and why.
    """
    folder = share_directory() / 'config' / 'datasets'
    path = Path(name_or_path).expanduser()
    if path.suffix not in ('.yaml', '.yml'):
        path = folder / f'{name_or_path}.yaml'
        if not path.is_file():
            raise DatasetError(
                f'dataset {str(name_or_path)!r}: expected a .yaml file or one of '
                f'{", ".join(shipped_datasets())}'
            )
    try:
        return DatasetConfig.model_validate(yaml.safe_load(path.read_text(encoding='utf-8')))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(f'{path}: not readable: {error}') from error
    except ValidationError as error:
        first = error.errors()[0]
        field = '.'.join(str(part) for part in first['loc']) or 'file'
        found = '' if first['type'] == 'value_error' else f'; found {first["input"]!r}'
        raise DatasetError(f'{path}: {field}: {first["msg"]}{found}') from error


def shipped_datasets() -> tuple[str, ...]:
    """List the names of the configurations that ship."""
    folder = share_directory() / 'config' / 'datasets'
    return tuple(sorted(path.stem for path in folder.glob('*.yaml')))


def _check_derivation(task: TaskConfig, given: Mapping[str, TaskConfig]) -> None:
    source = given.get(task.derived_from or '')
    if source is None:
        raise ValueError(f'tasks: {task.name!r} is derived from {task.derived_from!r}, no such')
    if set(task.derivation) != set(task.labels):
        raise ValueError(f'tasks: derivation of {task.name!r} must name each of its labels once')
    named = [label for labels in task.derivation.values() for label in labels]
    if sorted(named) != sorted(source.labels):
        odd = set(named) ^ set(source.labels) or repeated(named)
        raise ValueError(
            f'tasks: derivation of {task.name!r} must hold each label of {source.name!r} once; '
            f'not so: {sorted(odd)}'
        )


_Entry = TypeVar('_Entry', TaskConfig, Split)


def _named(kind: str, name: str, entries: Sequence[_Entry], dataset: str) -> _Entry:
    for entry in entries:
        if entry.name == name:
            return entry
    known = ', '.join(entry.name for entry in entries)
    raise DatasetError(f'{dataset}: no {kind} {name!r}; expected one of {known}')
