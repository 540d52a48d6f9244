# SPDX-License-Identifier: Apache-2.0
"""The layouts for Foxglove and RViz are complete and match the node's topics."""

import json
import re

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image

from step_ros.resources import load_defaults, share_directory

# Topics of every node, which no layout shows.
OF_ANY_NODE = {'/rosout', '/parameter_events', '/perception/transition_event'}
# A topic, perhaps with a filter, then fields, perhaps with a slice and a filter or an index.
FILTER = r'\{(?P<key>\w+)=="(?P<value>[^"]*)"\}'
PATH = re.compile(rf'(?P<topic>(/\w+)+)({FILTER})?(?P<fields>(\..+)?)')
FIELD = re.compile(r'\.(\w+)(\[(?:\d+|:)\])?' + f'({FILTER})?')


@pytest.fixture(scope='module')
def layout():
    return json.loads((share_directory() / 'config' / 'foxglove.json').read_text())


@pytest.fixture(scope='module')
def rviz():
    return yaml.safe_load((share_directory() / 'config' / 'perception.rviz').read_text())


@pytest.fixture
def topics(managed_node, user):
    """Types of the topics of an active node with default parameters."""
    node = managed_node(image_topics=load_defaults('perception.yaml')['image_topics'])
    user.activate()
    return {
        each.topic_name: each.msg_type
        for each in (*node.publishers, *node.subscriptions)
        if each.topic_name not in OF_ANY_NODE and 'classifications' not in each.topic_name
    }


def panels(node):
    """Return the panels in a part of the layout, from the top left."""
    if isinstance(node, str):
        return [node]
    assert node['direction'] in ('row', 'column')
    assert 0 < node['splitPercentage'] < 100
    return panels(node['first']) + panels(node['second'])


def paths(layout):
    """Return all topics and message paths, each with the kind of its panel."""
    found = []
    for name, config in layout['configById'].items():
        kind = name.partition('!')[0]
        values = [path['value'] for path in config.get('paths', ())]
        values += [config[key] for key in ('topicPath', 'topicToRender') if key in config]
        if 'imageMode' in config:
            values.append(config['imageMode']['imageTopic'])
        assert values, name
        found += [(kind, value) for value in values]
    return found


def field_type(message, path):
    """Return the type of the last field of a message path."""
    kinds = message.get_fields_and_field_types()
    kind = ''
    fields = list(FIELD.finditer(path))
    assert ''.join(field.group(0) for field in fields) == path
    for field in fields:
        name, index = field.group(1), field.group(2)
        kind = kinds[name]
        assert kind.startswith('sequence<') == bool(index), path
        kind = kind.removeprefix('sequence<').removesuffix('>')
        if '/' in kind:
            assert kind == 'step_ros/TaskHypothesis'
            from step_ros.msg import TaskHypothesis

            kinds = TaskHypothesis.get_fields_and_field_types()
            if field.group('key'):
                assert kinds[field.group('key')] == 'string'
    return kind


# Foxglove.


def test_each_panel_is_in_the_layout_once(layout):
    placed = panels(layout['layout'])
    assert sorted(placed) == sorted(layout['configById'])
    kinds = {name.partition('!')[0] for name in placed}
    assert kinds == {'Image', 'Plot', 'StateTransitions', 'RawMessages', 'DiagnosticSummary'}


def test_panels_show_what_the_node_publishes(layout, topics):
    shown = set()
    for kind, value in paths(layout):
        found = PATH.fullmatch(value)
        assert found, value
        topic = found.group('topic')
        message = topics[topic]
        shown.add(topic)
        if found.group('key'):
            assert message.get_fields_and_field_types()[found.group('key')] == 'string'
        last = field_type(message, found.group('fields'))
        wanted = {
            'Plot': ('float',),
            'StateTransitions': ('string', 'uint8'),
        }.get(kind, ('',))
        assert last in wanted, value
        if kind == 'Image':
            assert message is Image
        if kind == 'DiagnosticSummary':
            assert message is DiagnosticArray
    assert shown == set(topics)


def test_panel_paths_name_the_shipped_tasks(layout):
    from step_ros.tabletop.simulator import TASKS

    named = {
        found.group('value') for _, value in paths(layout) for found in re.finditer(FILTER, value)
    }
    assert named == set(TASKS)


# RViz.


def test_rviz_shows_the_overlay(rviz):
    displays = {each['Name']: each for each in rviz['Visualization Manager']['Displays']}
    overlay = displays['What the model sees']
    assert overlay['Class'] == 'rviz_default_plugins/Image'
    assert overlay['Enabled']
    assert overlay['Topic']['Value'] == '/perception/overlay'


def test_rviz_images_have_known_topics_and_docks(rviz, topics):
    for display in rviz['Visualization Manager']['Displays']:
        assert topics[display['Topic']['Value']] is Image
        assert display['Enabled'] == display['Value']
        assert display['Name'] in rviz['Window Geometry']


def test_rviz_fixed_frame_is_that_of_the_demo_camera(rviz):
    fixed = rviz['Visualization Manager']['Global Options']['Fixed Frame']
    assert fixed == load_defaults('camera.yaml')['frame_id']
