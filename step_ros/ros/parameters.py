# SPDX-License-Identifier: Apache-2.0
"""Node parameters: meaning, range and unit are declared in Python, defaults in `config/*.yaml`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

    declared = False
    node.add_on_set_parameters_callback(check)
    for parameter in parameters:
        default = defaults[parameter.name]
        node.declare_parameter(parameter.name, default, parameter.descriptor(default))
    declared = True


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
