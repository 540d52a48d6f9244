# SPDX-License-Identifier: Apache-2.0
"""Parameters: declarations, defaults, and the tables in the guide made from both."""

import math
import re

import pytest
from rclpy.parameter import Parameter as RclParameter

from step_ros.resources import load_defaults, share_directory
from step_ros.ros.camera import parameters as camera_parameters
from step_ros.ros.parameters import (
    Parameter,
    declare_parameters,
    parameter_table,
    parameter_values,
    undeclared_warnings,
)
from step_ros.ros.perception import parameters as perception_parameters
from step_ros.ros.perception.image_input import choose_region_topics
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


@pytest.fixture
def declared_with(ros):
    """Declare the parameters of a node with given values: returns its values and its log."""
    from rclpy.node import Node
    from rclpy.parameter import Parameter as Given

    nodes = []

    def declare(kind, *arguments, **given):
        declared = NODES[kind]
        node = Node(
            'declared',
            context=ros.context,
            cli_args=['--ros-args', *arguments] if arguments else None,
            parameter_overrides=[Given(name, value=value) for name, value in given.items()],
        )
        nodes.append(node)
        declare_parameters(node, declared.PARAMETERS, load_defaults(declared.DEFAULTS_FILE))
        return node

    yield declare
    for node in nodes:
        node.destroy_node()


def test_whole_number_and_empty_list_are_taken(declared_with, tmp_path):
    path = tmp_path / 'given.yaml'
    path.write_text('/**:\n  ros__parameters: {on_threshold: 1, region_topics: [], top_k: 2}\n')
    values = parameter_values(
        declared_with('perception', '--params-file', str(path)), NODES['perception'].PARAMETERS
    )
    assert (values['on_threshold'], values['region_topics'], values['top_k']) == (1.0, [''], 2)
    assert isinstance(values['on_threshold'], float)
    assert choose_region_topics(['camera'], values['region_topics']) == {}
    camera = declared_with('camera', '-p', 'rate:=25')
    assert camera.get_parameter('rate').value == 25.0


def test_whole_number_is_taken_while_the_node_runs(declared_with):
    from rclpy.parameter import Parameter as Given

    node = declared_with('perception')
    if not hasattr(node, 'add_pre_set_parameters_callback'):
        pytest.skip('this rclpy cannot change a value before it is checked')
    (result,) = node.set_parameters([Given('on_threshold', value=1)])
    assert result.successful, result.reason
    assert node.get_parameter('on_threshold').value == 1.0


@pytest.mark.parametrize('given', [{'top_k': 2.5}, {'bundle': 3}, {'on_threshold': 'high'}])
def test_value_of_another_type_is_still_refused(declared_with, given):
    from rclpy.exceptions import InvalidParameterTypeException

    with pytest.raises(InvalidParameterTypeException, match=next(iter(given))):
        declared_with('perception', **given)


def test_undeclared_parameters_are_named_with_the_nearest():
    known = ['bundle', 'on_threshold', 'off_threshold']
    given = ['on_treshold', 'bundle', 'use_sim_time', 'qos_overrides./a.publisher.depth']
    (warning,) = undeclared_warnings(given, known)
    assert "'on_treshold' is ignored" in warning
    assert "the nearest is 'on_threshold'" in warning
