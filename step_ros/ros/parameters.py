"""Node parameters, declared once: meaning, range and unit here, defaults in `config/*.yaml`."""

from collections.abc import Mapping, Sequence
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

from step_ros.resources import Value


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a parameter means and which values it takes.

    Attributes:
        name: Its name.
        description: What it decides, in a sentence.
        unit: Unit of its value; empty for none.
        minimum: Smallest value of a number.
        maximum: Largest value of a number.
        choices: The only values of a string; empty for any.
    """

    name: str
    description: str
    unit: str = ''
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def constraint(self) -> str:
        """The values it takes, in words; empty for any."""
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
    node: Node, parameters: Sequence[Parameter], defaults: Mapping[str, Value]
) -> None:
    """Declare every parameter with its default and descriptor, and refuse values that break it."""
    by_name = {parameter.name: parameter for parameter in parameters}

    def check(changes: list[RclParameter]) -> SetParametersResult:
        for change in changes:
            parameter = by_name.get(change.name)
            if parameter and parameter.choices and change.value not in parameter.choices:
                return SetParametersResult(
                    successful=False,
                    reason=f'{change.name} is {change.value!r}; expected {parameter.constraint}',
                )
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)
    for parameter in parameters:
        default = defaults[parameter.name]
        node.declare_parameter(parameter.name, default, parameter.descriptor(default))


def parameter_values(node: Node, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Read the current values of all parameters."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in parameters}


def markdown_table(parameters: Sequence[Parameter], defaults: Mapping[str, Value]) -> str:
    """Write the parameters as the Markdown table that the README shows."""
    rows = ['| parameter | default | unit | values | meaning |', '|---|---|---|---|---|']
    for parameter in parameters:
        default = yaml.safe_dump(defaults[parameter.name], default_flow_style=True)
        default = default.removesuffix('...\n').strip()
        rows.append(
            f'| `{parameter.name}` | `{default}` | {parameter.unit or "–"} '
            f'| {parameter.constraint or "any"} | {parameter.description} |'
        )
    return '\n'.join(rows)
