# SPDX-License-Identifier: Apache-2.0
"""The generator of `docs/recipes.md`: every key of the YAML files, from their schemas."""

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from step_ros.datasets.schema import DatasetConfig
from step_ros.experiments.spec import AblationSpec
from step_ros.reporting.markdown import MISSING, markdown_table
from step_ros.training.config import Recipe

TOP = """# Recipes, ablations and datasets: all keys

`make docs` writes this page from the schemas; do not edit it. An unknown key is an error, and so
is a value out of range: the message names the file and the key. In the names below, `NAME` stands
for a name of your own, and `[]` for each entry of a list.
"""

FILES: dict[str, tuple[type[BaseModel], str]] = {
    'Training recipe': (
        Recipe,
        'A file in `config/training/`, for `step_ros train`; see [training.md](training.md).',
    ),
    'Ablation': (
        AblationSpec,
        'A file in `config/ablations/`, for `step_ros ablate`; see [training.md](training.md).',
    ),
    'Dataset': (
        DatasetConfig,
        'A file in `config/datasets/`: labels, views, splits and test protocol of a dataset.',
    ),
}

HEAD = ('key', 'type', 'default', 'range', 'unit', 'meaning')

TYPES = {
    str: 'text',
    int: 'integer',
    float: 'number',
    bool: '`true` or `false`',
    Path: 'path',
    Any: 'any',
}

BOUNDS = {'gt': '>', 'ge': '>=', 'lt': '<', 'le': '<='}


def recipes_document() -> str:
    """Return the page as Markdown."""
    return '\n'.join([TOP, *(part for title in FILES for part in _file(title))])


def described_models() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the key and the schema of each section of the page."""
    for model, _ in FILES.values():
        yield from _sections('', model)


def _file(title: str) -> Iterator[str]:
    model, about = FILES[title]
    yield f'## {title}\n\n{about}\n'
    for key, section in _sections('', model):
        if key:
            yield f'### `{key}`\n'
        yield f'{_about(section)}\n'
        rows = [_row(key, name, field) for name, field in section.model_fields.items()]
        yield f'{markdown_table(HEAD, rows, figures="none")}\n'


def _sections(key: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield key, model
    for name, field in model.model_fields.items():
        for path, inner in _models_in(_join(key, name), field.annotation):
            # A recipe inside of an ablation has its section already.
            if inner is not Recipe:
                yield from _sections(path, inner)


def _models_in(key: str, kind: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the schemas in a type, with the keys under which they stand."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield key, kind
        return
    suffix = {dict: '.NAME', tuple: '[]'}.get(get_origin(kind), '')
    for part in get_args(kind):
        yield from _models_in(key + suffix, part)


def _row(section: str, name: str, field: FieldInfo) -> tuple[str, ...]:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return (
        f'`{name}`',
        _type_text(_join(section, name), field.annotation),
        _default_text(field),
        _range_text(field),
        str(extra.get('unit', MISSING)),
        field.description or MISSING,
    )


def _type_text(key: str, kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Recipe:
        return '[training recipe](#training-recipe)'
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f'[`{key}`](#{re.sub("[^a-z0-9_-]", "", key.lower())})'
    if origin is Annotated:
        return _type_text(key, parts[0])
    if origin is Literal:
        return ', '.join(f'`{choice}`' for choice in parts)
    if origin in (Union, types.UnionType):
        known = [part for part in parts if part is not types.NoneType]
        return ' or '.join(_type_text(key, part) for part in known)
    if origin is tuple and parts[-1] is Ellipsis:
        return f'list of {_type_text(f"{key}[]", parts[0])}'
    if origin is tuple:
        return f'pair of {_type_text(key, parts[0])}'
    if origin is dict:
        return f'mapping of {_type_text(key, parts[0])} to {_type_text(f"{key}.NAME", parts[1])}'
    return TYPES[kind]


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return 'required'
    value = field.get_default(call_default_factory=True)
    if value is None:
        return 'none'
    if isinstance(value, BaseModel):
        return 'its defaults'
    return _value_text(value)


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return f'`{str(value).lower()}`'
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, Mapping) and value:
        return '`{' + ', '.join(f'{key}: {each}' for key, each in value.items()) + '}`'
    if isinstance(value, tuple) and value:
        return '`[' + ', '.join(str(each) for each in value) + ']`'
    if value in ('', (), {}):
        return 'empty'
    return f'`{value}`' if isinstance(value, str | Path) else str(value)


def _range_text(field: FieldInfo) -> str:
    found = [
        f'{sign} {getattr(limit, bound):g}'
        for limit in (*field.metadata, *_inner_limits(field.annotation))
        for bound, sign in BOUNDS.items()
        if getattr(limit, bound, None) is not None
    ]
    least = [limit.min_length for limit in field.metadata if hasattr(limit, 'min_length')]
    if least and field.annotation is not str and get_origin(field.annotation) in (tuple, dict):
        found.append(f'at least {least[0]} entries' if least[0] > 1 else 'not empty')
    return ', '.join(dict.fromkeys(found)) or MISSING


def _inner_limits(kind: Any) -> Iterator[Any]:
    """Yield the limits of the numbers inside of a type."""
    if get_origin(kind) is Annotated:
        for limit in kind.__metadata__:
            yield from limit.metadata if isinstance(limit, FieldInfo) else (limit,)
    for part in get_args(kind):
        yield from _inner_limits(part)


def _join(section: str, name: str) -> str:
    return f'{section}.{name}' if section else name


def _about(model: type[BaseModel]) -> str:
    """Return a schema's docstring as Markdown."""
    return inspect.cleandoc(model.__doc__ or '')
