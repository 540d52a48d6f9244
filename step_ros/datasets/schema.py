# SPDX-License-Identifier: Apache-2.0
"""The schema of `config/datasets/*.yaml`: labels, pairs, views, splits and test protocol.

`load_dataset_config` reads one of these files. `TaskConfig` holds the labels of one task: nearly
symmetric pairs, mirror images, misspellings, and labels that follow from another task's.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from unicodedata import normalize

import yaml
from pydantic import Field, ValidationError, model_validator

from step_ros.files import expand_home
from step_ros.io.errors import DatasetError
from step_ros.resources import share_directory
from step_ros.schema import StrictModel

Count = Annotated[int, Field(strict=True, gt=0)]
Number = Annotated[int, Field(strict=True, ge=0)]
# Without surrounding blanks.
Label = Annotated[str, Field(min_length=1, pattern=r'^\S(.*\S)?$')]
Pair = tuple[Label, Label]
Part = Literal['train', 'val', 'test']

_T = TypeVar('_T', bound=Hashable)


class TaskConfig(StrictModel):
    """The labels of one task and their relations."""

    name: Label = Field(description='name of the task')
    classes: Count = Field(description='number of labels, to detect a lost line')
    labels: tuple[Label, ...] = Field(min_length=2, description='labels in the published order')
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
        default_factory=dict, description='label of each known misspelling'
    )
    ignored: tuple[Label, ...] = Field(
        default=(), description='labels of the annotation files that are no classes'
    )
    derived_from: Label | None = Field(
        default=None, description='the task whose labels determine these'
    )
    derivation: dict[Label, tuple[Label, ...]] = Field(
        default_factory=dict,
        description='for each label, the labels of the other task that determine it',
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
                raise ValueError(
                    f'no_flip: {label!r} has a mirror: remove it from no_flip or mirrors'
                )
        for label in self.labels:
            if names_a_side(label) and label not in mirrored and label not in self.no_flip:
                raise ValueError(
                    f'labels: {label!r} names a side: give its mirror, or list it under no_flip'
                )
        return self

    def _check_labels(self) -> None:
        if again := repeated(self.labels):
            raise ValueError(f'labels: {again} occur twice')
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
            raise ValueError(f'{field}: {again} occur more than once')

    def _check_known(self, field: str, label: str) -> None:
        if label not in self.labels:
            raise ValueError(f'{field}: {label!r} is no label of task {self.name!r}')

    @cached_property
    def counterparts(self) -> Mapping[str, str]:
        """Nearly symmetric partner of each paired label, as in a bundle's task."""
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
        """Return the label of the flipped clip; None if the clip must not be flipped."""
        return None if label in self.no_flip else self._mirror_of.get(label, label)

    def find(self, written: str) -> str | None:
        """Return the label for a text of an annotation file; None if the text is no label."""
        # An annotation may write an umlaut as two characters (NFD), where the label has one (NFC).
        for text in (written, *(normalize(form, written) for form in ('NFC', 'NFD'))):
            label = self.aliases.get(text, text)
            if label in self._known:
                return label
        return None

    def derive(self, label: str) -> str:
        """Return the label that a label of the other task determines."""
        return self._source_of[label]


def names_a_side(label: str) -> bool:
    """Return whether a label contains the word left or right, also in camel or snake case."""
    words = re.findall(r'[A-Z]?[a-z]+|[A-Z]+', label)
    return not {'left', 'right'}.isdisjoint(word.lower() for word in words)


def repeated(values: Sequence[_T]) -> list[_T]:
    """Return the second and further occurrences of values in a list."""
    seen: set[_T] = set()
    again = []
    for value in values:
        if value in seen:
            again.append(value)
        seen.add(value)
    return again


def _both_ways(pairs: Sequence[Pair]) -> dict[str, str]:
    return {label: other for one, two in pairs for label, other in ((one, two), (two, one))}


class View(StrictModel):
    """A camera."""

    name: str = Field(description='name in the file names; empty if the dataset has only one view')
    meaning: str = Field(min_length=1, description='position or kind of the camera')


class Split(StrictModel):
    """The assignment of clips to training, validation and test."""

    name: Label = Field(description='name of the split')
    unit: Literal['files', 'group', 'subject', 'setup', 'environment'] = Field(
        description='meaning of the numbers; files: the dataset lists the clips itself'
    )
    train: tuple[Number, ...] = Field(default=(), description='numbers for training')
    val: tuple[Number, ...] = Field(default=(), description='numbers for validation')
    test: tuple[Number, ...] = Field(default=(), description='numbers for testing')
    rest: Part | None = Field(default=None, description='part of all numbers that are not listed')
    members: dict[Number, tuple[Number, ...]] = Field(
        default_factory=dict, description='numbers in file names that belong to each number'
    )
    note: str = Field(default='', description='remark about the split')

    @model_validator(mode='after')
    def _check(self) -> 'Split':
        if again := repeated([*self.train, *self.val, *self.test]):
            raise ValueError(f'split {self.name!r}: {again} occur in more than one part')
        if again := repeated([number for members in self.members.values() for number in members]):
            raise ValueError(f'split {self.name!r}: members: {again} occur twice')
        listed = bool(self.train or self.val or self.test)
        if listed == (self.unit == 'files'):
            raise ValueError(
                f'split {self.name!r}: list numbers for every unit but files; unit files has none'
            )
        return self

    def number_of(self, member: int) -> int | None:
        """Return the number to which a number in a file name belongs; None if unknown."""
        if not self.members:
            return member
        return next(
            (number for number, members in self.members.items() if member in members), None
        )

    def part_of(self, number: int, validation: Sequence[int] = ()) -> Part | None:
        """Return the part to which a number belongs; None if the split does not assign it.

        Args:
            number: Group, subject, setup or environment.
            validation: Numbers of the training part that are reserved for validation.
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
    """The test protocol of the papers: how they sample a clip."""

    sampling: Literal['interval', 'segments'] = Field(
        description='frames at equal distances in time, or one frame of each of equal segments'
    )
    frames: Count = Field(
        description='frames in a window (T)', json_schema_extra={'unit': 'frames'}
    )
    interval: Count | None = Field(
        default=None,
        description='distance of two frames of a window in a video',
        json_schema_extra={'unit': 'frames'},
    )
    clips: Count = Field(description='windows over time whose scores are averaged')
    crops: Count = Field(default=1, description='crops of the image whose scores are averaged')
    trained_view: str | None = Field(
        default=None,
        description='training view of the cross-view protocol, which tests on unseen views',
    )

    @model_validator(mode='after')
    def _check(self) -> 'Evaluation':
        if (self.interval is None) != (self.sampling == 'segments'):
            raise ValueError('sampling interval needs an interval, sampling segments has none')
        return self


class Unknown(StrictModel):
    """A detail that is not published, and the default that replaces it."""

    what: str = Field(min_length=1, description='the detail')
    default: str = Field(min_length=1, description='the default that replaces it')
    option: str = Field(default='', description="the reader's option that changes the default")


class DatasetConfig(StrictModel):
    """The content of a dataset's file."""

    name: Label = Field(description='name of the dataset, for `step_ros data`')
    title: str = Field(min_length=1, description='full name, for reports')
    source: str = Field(default='', description='where to get the dataset')
    license: str = Field(default='', description='licence of the dataset')
    clips: Count | None = Field(default=None, description='number of published clips')
    tasks: tuple[TaskConfig, ...] = Field(min_length=1, description='the tasks and their labels')
    views: tuple[View, ...] = Field(min_length=1, description='the cameras')
    splits: tuple[Split, ...] = Field(min_length=1, description='the published splits')
    evaluation: Evaluation = Field(description="the papers' test protocol")
    unknown: tuple[Unknown, ...] = Field(
        default=(), description='details that are not published, and their defaults here'
    )

    @model_validator(mode='after')
    def _check(self) -> 'DatasetConfig':
        fields = (('tasks', self.tasks), ('views', self.views), ('splits', self.splits))
        for field, entries in fields:
            if again := repeated([entry.name for entry in entries]):
                raise ValueError(f'{field}: {again} occur twice')
        if self.evaluation.trained_view not in {None, *(view.name for view in self.views)}:
            raise ValueError(
                f'evaluation: trained_view {self.evaluation.trained_view!r} is no view'
            )
        given = {task.name: task for task in self.tasks if task.derived_from is None}
        for task in self.tasks:
            if task.derived_from is not None:
                _check_derivation(task, given)
        return self

    def task(self, name: str) -> TaskConfig:
        """Return a task by its name.

        Raises:
            DatasetError: The dataset has no such task.
        """
        return _named('task', name, self.tasks, self.name)

    def split(self, name: str) -> Split:
        """Return a split by its name.

        Raises:
            DatasetError: The dataset has no such split.
        """
        return _named('split', name, self.splits, self.name)

    def all_labels(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the given labels with those of the derived tasks."""
        return {
            task.name: task.derive(given[task.derived_from])
            if task.derived_from is not None
            else given[task.name]
            for task in self.tasks
        }


def load_dataset_config(name_or_path: str | Path) -> DatasetConfig:
    """Read a dataset's configuration: a shipped one by name, or a YAML file by path.

    Raises:
        DatasetError: The file is missing, unreadable or breaks the schema; the message names the
            field.
    """
    folder = share_directory() / 'config' / 'datasets'
    path = expand_home(name_or_path)
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
    """Return the names of the shipped configurations."""
    folder = share_directory() / 'config' / 'datasets'
    return tuple(sorted(path.stem for path in folder.glob('*.yaml')))


def _check_derivation(task: TaskConfig, given: Mapping[str, TaskConfig]) -> None:
    source = given.get(task.derived_from or '')
    if source is None:
        raise ValueError(
            f'tasks: {task.name!r} is derived from {task.derived_from!r}, which is no task with '
            'labels of its own'
        )
    if set(task.derivation) != set(task.labels):
        raise ValueError(f'tasks: derivation of {task.name!r} must name each of its labels once')
    named = [label for labels in task.derivation.values() for label in labels]
    if sorted(named) != sorted(source.labels):
        odd = set(named) ^ set(source.labels) or repeated(named)
        raise ValueError(
            f'tasks: derivation of {task.name!r} must hold each label of {source.name!r} once; '
            f'wrong: {sorted(odd)}'
        )


_Entry = TypeVar('_Entry', TaskConfig, Split)


def _named(kind: str, name: str, entries: Sequence[_Entry], dataset: str) -> _Entry:
    for entry in entries:
        if entry.name == name:
            return entry
    known = ', '.join(entry.name for entry in entries)
    raise DatasetError(f'{dataset}: no {kind} {name!r}; expected one of {known}')
