"""Files of the package: default parameters and shipped model bundles."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

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


def read_parameters(path: Path, *, known: Mapping[str, Value]) -> dict[str, Value]:
    """Read a user's ROS parameter file.

    Args:
        path: The file; parameters of several nodes are merged.
        known: The known parameters, each with a value of its type.

    Raises:
        ValueError: The file is not a ROS parameter file, or a parameter is unknown or of another
            type.
    """
    try:
        sections = yaml.safe_load(path.read_text(encoding='utf-8'))
        given = {
            name: value
            for section in sections.values()
            for name, value in section['ros__parameters'].items()
        }
    except (AttributeError, KeyError, OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f'{path}: no ROS parameter file (NODE: ros__parameters: NAME: VALUE): {error!r}'
        ) from error
    for name, value in given.items():
        if name not in known:
            raise ValueError(f'{path}: no parameter {name!r}; expected some of {", ".join(known)}')
        if type(value) is not type(known[name]):
            raise ValueError(f'{path}: {name}: {value!r}; expected a value like {known[name]!r}')
    return given


def find_bundle(name: str) -> Path:
    """Return the folder of a bundle.

    Args:
        name: Path of a folder, or name of a bundle that the package ships.

    Raises:
        FileNotFoundError: There is no such folder and no such shipped bundle; lists the latter.
    """
    path = Path(name).expanduser()
    shipped = share_directory() / 'models'
    for candidate in (path, shipped / name):
        if candidate.is_dir():
            return candidate
    known = ', '.join(sorted(found.parent.name for found in shipped.glob('*/bundle.yaml')))
    raise FileNotFoundError(
        f'bundle {name!r} is neither a folder nor one of the shipped bundles: {known}'
    )
