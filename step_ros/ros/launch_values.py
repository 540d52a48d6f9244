"""Launch arguments, which are text, as parameter values of the type that the node declares."""

from collections.abc import Mapping

import yaml

from step_ros.resources import Value, load_defaults

_TRUTH = {'true': True, '1': True, 'false': False, '0': False}


def overrides(file_name: str, given: Mapping[str, str]) -> dict[str, Value]:
    """Choose the launch arguments that override parameters: those that are not empty.

    What is left empty stays out of the result, so that the parameter file decides.

    Args:
        file_name: The node's defaults in `config/`; they say which type a parameter has.
        given: Text by parameter name. `use_sim_time`, which every node has, may be among them.

    Raises:
        ValueError: A text is no value of its parameter's type.
    """
    defaults: dict[str, Value] = {**load_defaults(file_name), 'use_sim_time': False}
    return {
        name: typed_value(name, text.strip(), defaults[name])
        for name, text in given.items()
        if text.strip()
    }


def typed_value(name: str, text: str, like: Value) -> Value:
    """Read a text as a value of the type of another one.

    Args:
        name: Of the launch argument, for the error.
        text: For a list, its items with commas between them, or a YAML list.
        like: A value of the type wanted.

    Raises:
        ValueError: The text is no such value.
    """
    try:
        if isinstance(like, bool):
            return _TRUTH[text.lower()]
        if isinstance(like, list):
            items = yaml.safe_load(text) if text.startswith('[') else text.split(',')
            return [str(item).strip() for item in items]
        if isinstance(like, (int, float)):
            return type(like)(text)
    except (KeyError, ValueError, yaml.YAMLError) as error:
        kind = {bool: 'true or false', list: 'a list', int: 'an integer', float: 'a number'}
        raise ValueError(f'launch argument {name}:={text}: expected {kind[type(like)]}') from error
    return text
