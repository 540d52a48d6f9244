"""The labels of a dataset's task: pairs, mirrors, misspellings, derivation from another task."""

import re
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, TypeVar

from pydantic import Field, model_validator

from step_ros.schema import Strict

Count = Annotated[int, Field(strict=True, gt=0)]
Label = Annotated[str, Field(min_length=1, pattern=r'^\S(.*\S)?$')]
Pair = tuple[Label, Label]
_T = TypeVar('_T', bound=Hashable)


class TaskConfig(Strict):
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
