# SPDX-License-Identifier: Apache-2.0
"""Node parameters: meaning, range and unit are declared in Python, defaults in `config/*.yaml`."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RclParameter

from step_ros.reporting.markdown import MISSING, markdown_table
from step_ros.resources import Value

_Type = RclParameter.Type
_ARRAYS = (
    # The type of an empty list in a parameter file.
    _Type.NOT_SET,
    _Type.BOOL_ARRAY,
    _Type.BYTE_ARRAY,
    _Type.DOUBLE_ARRAY,
    _Type.INTEGER_ARRAY,
    _Type.STRING_ARRAY,
)
# Parameters that rclpy declares by itself, some of them later than ours.
_OF_EVERY_NODE = ('use_sim_time', 'start_type_description_service', 'qos_overrides.')


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Meaning and allowed values of a parameter.

    Attributes:
        name: Name of the parameter.
        description: Its meaning, in one sentence.
        unit: Unit of its value; empty for none.
        minimum: Smallest value of a number.
        maximum: Largest value of a number.
        choices: The values that a string may take; empty for any.
        live: Whether a change takes effect at once. Otherwise it takes effect when the node is
            configured again.
    """

    name: str
    description: str
    unit: str = ''
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    @property
    def constraint(self) -> str:
        """The allowed values, in words; empty for any."""
        if self.choices:
            return 'one of ' + ', '.join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f'{self.minimum:g} to {self.maximum:g}'
        return ''

    def descriptor(self, default: Value) -> ParameterDescriptor:
        """Return the ROS descriptor, with the range that rclpy enforces."""
        descriptor = ParameterDescriptor(
            name=self.name,
            description=self.description + (f' [{self.unit}]' if self.unit else ''),
            additional_constraints='' if self.minimum is not None else self.constraint,
        )
        if self.minimum is not None and self.maximum is not None:
            if isinstance(default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(
                        from_value=float(self.minimum), to_value=float(self.maximum), step=0.0
                    )
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum), step=1)
                ]
        return descriptor


def declare_parameters(
    node: Node,
    parameters: Sequence[Parameter],
    defaults: Mapping[str, Value],
    *,
    change: Callable[[dict[str, Any], list[Parameter]], None] | None = None,
) -> None:
    """Declare every parameter, and reject values that its declaration does not allow.

    A whole number is taken for a parameter that is a number, and an empty list for one that is a
    list of names. Each given parameter that is not declared is warned of.

    Args:
        node: The node.
        parameters: The parameters.
        defaults: Their defaults, by name.
        change: Called before parameters change, once all are declared. It gets all values as they
            will be and the parameters that change. It applies them, or raises `ValueError` with
            the reason for rejecting them.
    """
    by_name = {parameter.name: parameter for parameter in parameters}

    def check(changes: list[RclParameter]) -> SetParametersResult:
        for each in changes:
            parameter = by_name.get(each.name)
            if parameter and parameter.choices and each.value not in parameter.choices:
                return SetParametersResult(
                    successful=False,
                    reason=f'{each.name} is {each.value!r}; expected {parameter.constraint}',
                )
            # NaN is neither below the minimum nor above the maximum that rclpy compares it with.
            if parameter and not _is_finite(each.value):
                expected = parameter.constraint or 'a finite number'
                return SetParametersResult(
                    successful=False, reason=f'{each.name} is {each.value!r}; expected {expected}'
                )
        changed = [by_name[each.name] for each in changes if each.name in by_name]
        if change is not None and declared and changed:
            values = parameter_values(node, parameters)
            values |= {each.name: each.value for each in changes if each.name in by_name}
            try:
                change(values, changed)
            except ValueError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def fit_all(changes: list[RclParameter]) -> list[RclParameter]:
        return [_fitted(each, defaults) for each in changes]

    declared = False
    # What the command line, files and the constructor give; rclpy has no public access to it.
    given: dict[str, RclParameter] = node._parameter_overrides
    for each in fit_all(list(given.values())):
        given[each.name] = each
    node.add_on_set_parameters_callback(check)
    # From Iron on.
    if hasattr(node, 'add_pre_set_parameters_callback'):
        node.add_pre_set_parameters_callback(fit_all)
    for parameter in parameters:
        default = defaults[parameter.name]
        node.declare_parameter(parameter.name, default, parameter.descriptor(default))
        # Raises for a parameter to which a file gives no value.
        node.get_parameter(parameter.name)
    declared = True
    for text in undeclared_warnings(given, list(defaults)):
        node.get_logger().warning(text)


def undeclared_warnings(given: Iterable[str], known: Sequence[str]) -> list[str]:
    """Return a warning for each given parameter that the node does not have.

    Args:
        given: Names of the parameters that the command line and the parameter files give.
        known: Names of the parameters that the node declares.
    """
    warnings = []
    for name in sorted(set(given) - set(known)):
        if name.startswith(_OF_EVERY_NODE):
            continue
        nearest = get_close_matches(name, known, n=1, cutoff=0.0)
        warnings.append(
            f'parameter {name!r} is ignored: this node has no such parameter; the nearest is '
            f'{nearest[0]!r}; check the spelling on the command line and in the parameter file'
        )
    return warnings


def _fitted(given: RclParameter, defaults: Mapping[str, Value]) -> RclParameter:
    """Return a parameter with the type that its declaration has, where the meaning is certain.

    YAML has no other way to write `1` or `[]`: it makes an integer of `on_threshold: 1`, and an
    array of any type of `region_topics: []`.
    """
    default = defaults.get(given.name)
    if isinstance(default, float) and given.type_ == _Type.INTEGER:
        return RclParameter(given.name, _Type.DOUBLE, float(given.value))
    if isinstance(default, list) and given.type_ in _ARRAYS and not len(given.value or ()):
        # rclpy forgets the type of an empty list; a single empty name has the same meaning.
        return RclParameter(given.name, _Type.STRING_ARRAY, [''])
    return given


def _is_finite(value: Value) -> bool:
    numbers = value if isinstance(value, Sequence) else (value,)
    return all(math.isfinite(each) for each in numbers if isinstance(each, float))


def parameter_values(node: Node, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the current values of all parameters, by name."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in parameters}


def parameter_table(parameters: Sequence[Parameter], defaults: Mapping[str, Value]) -> str:
    """Return the parameters as the Markdown table of `docs/integration.md`."""
    rows = []
    for parameter in parameters:
        default = yaml.safe_dump(defaults[parameter.name], default_flow_style=True)
        default = default.removesuffix('...\n').strip()
        rows.append(
            (
                f'`{parameter.name}`',
                f'`{default}`',
                parameter.unit or MISSING,
                parameter.constraint or 'any',
                'yes' if parameter.live else '',
                parameter.description,
            )
        )
    head = ('parameter', 'default', 'unit', 'values', 'live', 'meaning')
    return markdown_table(head, rows, figures='none')
