# SPDX-License-Identifier: Apache-2.0
"""Files of the package: default parameters and shipped model bundles."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from step_ros.files import expand_home

# Name of the perception node, and parameters that every ROS node has beside `qos_overrides`.
PERCEPTION = 'perception'
_EVERY_NODE = ('use_sim_time', 'start_type_description_service')

Value = bool | int | float | str | list[str]


def share_directory() -> Path:
    """Return the folder that holds `config/` and `models/`.

    A source checkout comes first, also through the links of `colcon build --symlink-install`. An
    installed ROS package in `AMENT_PREFIX_PATH` comes second, a pip installation last.

    Raises:
        FileNotFoundError: None of these folders exists.
    """
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / 'package.xml').is_file():
        return checkout
    prefixes = [prefix for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(':') if prefix]
    candidates = [Path(prefix) / 'share' / 'step_ros' for prefix in [*prefixes, sys.prefix]]
    for candidate in candidates:
        if (candidate / 'config').is_dir():
            return candidate
    raise FileNotFoundError(
        'folder share/step_ros not found; install the package or source its workspace; searched '
        + ', '.join(map(str, candidates))
    )


def load_defaults(file_name: str) -> dict[str, Value]:
    """Read the default parameters of a node from `config/`.

    Args:
        file_name: Name of a ROS parameter file with one section `/**`, e.g. `perception.yaml`.
    """
    path = share_directory() / 'config' / file_name
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    defaults: dict[str, Value] = content['/**']['ros__parameters']
    return defaults


def read_parameters(path: Path, *, known: Mapping[str, Value], node: str = '') -> dict[str, Value]:
    """Read the perception node's parameters from a user's ROS parameter file.

    The file may have sections for other nodes, nested namespaces and wildcards. Parameters that
    every ROS node has, such as `use_sim_time`, are left out.

    Args:
        path: The file.
        known: The known parameters, each with a value of its type.
        node: Name of the node, with its namespace where several nodes have the name. Empty for
            the only section of a node `perception`, or the file's only section.

    Returns:
        The known parameters that the file gives; wildcard sections first, then the node's own.

    Raises:
        ValueError: The file is not a ROS parameter file, it does not say which section is meant,
            or a parameter is unknown or of another type.
    """
    try:
        content = yaml.load(path.read_text(encoding='utf-8'), _UniqueKeys)
        sections = dict(_sections(content, ''))
        if not sections:
            raise ValueError('it has no section')
    except (AttributeError, OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f'{path}: no ROS parameter file (NODE: ros__parameters: NAME: VALUE): {error!r}'
        ) from error
    chosen = _chosen_sections(path, sections, known, node)
    # A wildcard section may hold parameters of the nodes that have sections of their own.
    shared = len(sections) > len(chosen)
    given: dict[str, Value] = {}
    for section in sorted(chosen, key=lambda name: '*' not in name):
        for name, value in _flat(sections[section], ''):
            if name in _EVERY_NODE or name.startswith('qos_overrides.'):
                continue
            if name in known:
                given[name] = _typed(f'{path}: {section}: {name}', value, known[name])
            elif '*' not in section or not shared:
                raise ValueError(
                    f'{path}: {section}: no parameter {name!r}; expected some of '
                    f'{", ".join(known)}'
                )
    return given


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that occurs twice; YAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (mark, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f'key {key!r} occurs twice', mark.start_mark
                )
        return super().construct_mapping(node, deep)


def _sections(content: Any, namespace: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the full name of each node in a parameter file, and its parameters."""
    for name, inside in content.items():
        if name == 'ros__parameters' and namespace:
            if not isinstance(inside, Mapping | type(None)):
                raise TypeError(f'{namespace}: {name}: expected NAME: VALUE, found {inside!r}')
            yield namespace, {} if inside is None else dict(inside)
        elif not isinstance(inside, Mapping):
            raise TypeError(f'{namespace}/{name}: expected ros__parameters, found {inside!r}')
        else:
            yield from _sections(inside, f'{namespace}/{str(name).strip("/")}')


def _chosen_sections(
    path: Path, sections: Mapping[str, dict[str, Any]], known: Mapping[str, Value], node: str
) -> list[str]:
    """Return the names of the sections that are about the perception node."""
    general = [name for name in sections if name == '/**']
    rest = [name for name in sections if name != '/**']
    wanted = node.strip('/') or PERCEPTION
    named = [name for name in rest if _ends_with(name, wanted)]
    if node.startswith('/') and any(_matches(name, node) for name in sections):
        return [name for name in sections if _matches(name, node)]
    own = [name for name in named if '*' not in name] or named
    if not own and not node:
        # The node may have another name: if the file has one section only, it is the node's.
        own = rest if len(sections) == 1 else []
        if not own and not any(set(sections[name]) & set(known) for name in rest):
            own = general
    elif not own:
        own = general
    if len(own) != 1:
        found = ', '.join(own or sections)
        raise ValueError(
            f'{path}: expected one section of the node {wanted!r}; '
            f'{"it has" if own else "it has only"} {found}; name the node with --node'
        )
    return [name for name in sections if name == own[0] or _matches(name, own[0])]


def _ends_with(section: str, name: str) -> bool:
    """Return whether a section's last parts are a name; wildcards at its end stand for it."""
    last = section.rsplit('/', 1)[-1]
    return last in ('*', '**') or section.endswith(f'/{name}')


def _matches(section: str, node: str) -> bool:
    """Return whether a section with wildcards is about a node, given by its full name."""
    if '*' not in section:
        return section == node
    # `*` is one part of a name, `**` any number of parts.
    pattern = ''.join(
        '(/[^/]+)*' if part == '**' else '/[^/]+' if part == '*' else f'/{re.escape(part)}'
        for part in section.strip('/').split('/')
    )
    return re.fullmatch(pattern, node) is not None


def _flat(parameters: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    """Yield the parameters by their full names, with a dot between the parts of nested ones."""
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f'{before}{name}.')
        else:
            yield f'{before}{name}', value


def _typed(where: str, value: Any, like: Value) -> Value:
    """Return a value with the type of another one; YAML reads 1 as an integer, not as 1.0."""
    if isinstance(like, float) and type(value) is int:
        return float(value)
    words = not isinstance(value, list) or all(isinstance(each, str) for each in value)
    if type(value) is not type(like) or not words:
        raise ValueError(f'{where}: {value!r}; expected a value like {like!r}')
    return value


def find_bundle(name: str) -> Path:
    """Return the folder of a bundle.

    Args:
        name: Path of a folder, or name of a bundle that the package ships.

    Raises:
        FileNotFoundError: There is no such folder and no such shipped bundle; lists the latter.
    """
    path = expand_home(name)
    shipped = share_directory() / 'models'
    for candidate in (path, shipped / name):
        if candidate.is_dir():
            return candidate
    known = ', '.join(sorted(found.parent.name for found in shipped.glob('*/bundle.yaml')))
    raise FileNotFoundError(
        f'bundle {name!r} is neither a folder nor one of the shipped bundles: {known}'
    )
