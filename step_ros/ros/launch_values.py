# SPDX-License-Identifier: Apache-2.0
"""Convert launch arguments, which are text, to the parameter types that the node declares."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from step_ros.resources import Value, load_defaults

_TRUTH = {'true': True, '1': True, 'false': False, '0': False}


def overrides(file_name: str, given: Mapping[str, str]) -> dict[str, Value]:
    """Return the launch arguments that override parameters: those that are not empty.

    An empty argument is left out of the result, so that the parameter file sets its value.

    Args:
        file_name: The node's defaults in `config/`; their types are the parameters' types.
        given: Text by parameter name. It may include `use_sim_time`, which every node has.

    Raises:
        ValueError: A text is not a value of its parameter's type.
    """
    defaults: dict[str, Value] = {**load_defaults(file_name), 'use_sim_time': False}
    return {
        name: typed_value(name, text.strip(), defaults[name])
        for name, text in given.items()
        if text.strip()
    }


def parameter_files(name: str, text: str) -> list[str]:
    """Return the parameter file that a launch argument names, or nothing if it is empty.

    launch_ros only warns of a file that does not exist, and starts the node with its defaults.

    Args:
        name: Name of the launch argument, for the error message.
        text: Path of the file; `~` stands for the home folder.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not text.strip():
        return []
    path = Path(text.strip()).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f'launch argument {name}:={text}: there is no such file (looked for '
            f'{path.absolute()}); give the path of a ROS parameter file, or leave it empty for '
            'the defaults'
        )
    return [str(path)]


def typed_value(name: str, text: str, like: Value) -> Value:
    """Return a text as a value of the same type as another value.

    Args:
        name: Name of the launch argument, for the error message.
        text: The text. A list is written as items separated by commas, or as a YAML list.
        like: Any value of the wanted type.

    Raises:
        ValueError: The text is not a value of that type.
    """
    try:
        if isinstance(like, bool):
            return _TRUTH[text.lower()]
        if isinstance(like, list):
            items = yaml.safe_load(text) if text.startswith('[') else text.split(',')
            return [str(item).strip() for item in items or ()]
        if isinstance(like, (int, float)):
            return type(like)(text)
    except (KeyError, ValueError, yaml.YAMLError) as error:
        kind = {bool: 'true or false', list: 'a list', int: 'an integer', float: 'a number'}
        raise ValueError(f'launch argument {name}:={text}: expected {kind[type(like)]}') from error
    return text
