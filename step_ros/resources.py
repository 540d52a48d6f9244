"""Where the package keeps its files: configuration, launch files and model bundles."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

Value = bool | int | float | str | list[str]


def share_directory() -> Path:
    """Find the folder that holds `config/` and `models/`.

    A source checkout comes first (also behind links of `colcon build --symlink-install`), then an
    installed ROS package by the ament index, then a pip installation.

    Raises:
        FileNotFoundError: None of them is there.
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
        'share/step_ros was found nowhere; looked in ' + ', '.join(map(str, candidates))
    )


def load_defaults(file_name: str) -> dict[str, Value]:
    """Read the defaults of a node's parameters from `config/`.

    Args:
        file_name: For example `perception.yaml`: a ROS parameter file with one section `/**`.
    """
    path = share_directory() / 'config' / file_name
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    defaults: dict[str, Value] = content['/**']['ros__parameters']
    return defaults


def read_parameters(path: Path, *, known: Mapping[str, Value]) -> dict[str, Value]:
    """Read a user's ROS parameter file.

    Args:
        path: The file; what it has for several nodes is taken together.
        known: Parameters there are, each with a value of its type.

    Raises:
        ValueError: It is no such file, or has a parameter that is not known or of another type.
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
    """Return the folder of a bundle: a path, or the name of one that the package ships.

    Raises:
        FileNotFoundError: Neither exists.
    """
    path = Path(name).expanduser()
    shipped = share_directory() / 'models'
    for candidate in (path, shipped / name):
        if candidate.is_dir():
            return candidate
    known = ', '.join(sorted(found.parent.name for found in shipped.glob('*/bundle.yaml')))
    raise FileNotFoundError(
        f'bundle {name!r} is neither a folder nor one of those shipped: {known}'
    )
