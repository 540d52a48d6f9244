# SPDX-License-Identifier: Apache-2.0
"""Parameters: declarations, defaults, and the tables in the guide made from both."""

import math
import re

import pytest
from rclpy.parameter import Parameter as RclParameter

from step_ros.resources import load_defaults, share_directory
from step_ros.ros.camera import parameters as camera_parameters
from step_ros.ros.parameters import Parameter, declare_parameters, parameter_table
from step_ros.ros.perception import parameters as perception_parameters
from step_ros.streaming.attention_cache.storage import MEMORY_BUDGET

NODES = {'perception': perception_parameters, 'camera': camera_parameters}


@pytest.mark.parametrize('node', NODES)
def test_parameters_and_defaults_have_the_same_names(node):
    declared = NODES[node]
    names = [parameter.name for parameter in declared.PARAMETERS]
    assert sorted(names) == sorted(load_defaults(declared.DEFAULTS_FILE))


@pytest.mark.parametrize('node', NODES)
def test_defaults_lie_within_their_range(node):
    declared = NODES[node]
    defaults = load_defaults(declared.DEFAULTS_FILE)
    for parameter in declared.PARAMETERS:
        default = defaults[parameter.name]
        if parameter.minimum is not None:
            assert parameter.minimum <= default <= parameter.maximum, parameter.name
        if parameter.choices:
            assert default in parameter.choices, parameter.name


@pytest.mark.parametrize('node', NODES)
def test_guide_shows_the_current_parameter_table(node):
    declared = NODES[node]
    guide = (share_directory() / 'docs' / 'integration.md').read_text(encoding='utf-8')
    shown = re.search(rf'<!-- parameters: {node} -->\n(.*?)\n<!-- end -->', guide, re.DOTALL)
    assert shown is not None
    table = parameter_table(declared.PARAMETERS, load_defaults(declared.DEFAULTS_FILE))
    assert shown[1] == table, 'run `make docs`'


def test_descriptors_carry_unit_and_range():
    parameter = Parameter(name='gap', description='A gap.', unit='s', minimum=0.0, maximum=2.0)
    descriptor = parameter.descriptor(1.0)
    assert descriptor.description == 'A gap. [s]'
    assert descriptor.floating_point_range[0].to_value == 2.0
    whole = Parameter(name='depth', description='A depth.', minimum=1, maximum=9).descriptor(3)
    assert whole.integer_range[0].from_value == 1


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, -1.0])
def test_number_that_is_not_finite_or_out_of_range_is_rejected(ros, value):
    parameters = [
        Parameter(name='gap', description='A gap.', minimum=0.0, maximum=2.0),
        Parameter(name='offset', description='An offset.'),
    ]
    declare_parameters(ros.node, parameters, {'gap': 1.0, 'offset': 0.5})
    result = ros.node.set_parameters([RclParameter('gap', value=value)])[0]
    assert not result.successful
    assert 'gap' in result.reason
    assert ros.node.get_parameter('gap').value == 1.0
    offset = ros.node.set_parameters([RclParameter('offset', value=value)])[0]
    assert offset.successful == math.isfinite(value)


def test_memory_budget_default_is_that_of_the_recogniser():
    defaults = load_defaults(perception_parameters.DEFAULTS_FILE)
    assert defaults['memory_budget'] * 2**20 == MEMORY_BUDGET
