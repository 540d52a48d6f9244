# SPDX-License-Identifier: Apache-2.0
"""The integration guide and the SROS 2 policy match the interfaces of the running node."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from rclpy.action import get_action_server_names_and_types_by_node
from std_msgs.msg import Header

from step_ros.resources import share_directory
from step_ros.ros.conversion import to_time
from step_ros.ros.images import from_rgb
from step_ros.streaming.grid import Placement

# A namespace for this test: a node of another test may still be in the graph.
NAMESPACE = '/guide'
START_SECONDS = 60.0
IMAGES, REGIONS = '/camera/image_raw', '/person/region'
ROW = re.compile(r'^\| (\w+) \| `([^`]+)` \| `([^`]+)` \|', re.MULTILINE)
# Interfaces that need `vision_msgs`, named below the table, or a newer ROS than Humble.
OPTIONAL = re.compile(r'~/(classifications/|get_type_description$)')


@pytest.fixture(scope='module')
def guide():
    return (share_directory() / 'docs' / 'integration.md').read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def policy():
    """The permissions of the policy, as rows of the guide without types."""
    tree = ElementTree.parse(share_directory() / 'config' / 'sros2' / 'perception.policy.xml')
    return {
        (verb, item.text)
        for tag, attribute, verb in (
            ('topics', 'publish', 'publishes'),
            ('topics', 'subscribe', 'subscribes'),
            ('services', 'reply', 'serves'),
            ('actions', 'execute', 'action'),
        )
        for group in tree.iter(tag)
        if group.get(attribute) == 'ALLOW'
        for item in group
    }


def own(name):
    return re.sub(rf'^{NAMESPACE}/perception/', '~/', name)


def interfaces(observer):
    """Return the interfaces of the node as rows of the guide: verb, name, type."""
    found = set()
    if ('perception', NAMESPACE) not in observer.get_node_names_and_namespaces():
        return found
    for verb, ask in (
        ('publishes', observer.get_publisher_names_and_types_by_node),
        ('subscribes', observer.get_subscriber_names_and_types_by_node),
        ('serves', observer.get_service_names_and_types_by_node),
        ('action', lambda *who: get_action_server_names_and_types_by_node(observer, *who)),
    ):
        for name, (kind,) in ask('perception', NAMESPACE):
            # The topics and services inside an action are not listed.
            if '/_action/' not in name and not OPTIONAL.match(own(name)):
                found.add((verb, own(name), kind))
    return found


def test_guide_and_policy_match_the_running_node(ros, start_node, tiny_bundle, guide, policy):
    start_node(
        'perception_node',
        remap={'__ns': NAMESPACE},
        bundle=str(tiny_bundle.path),
        device='cpu',
        image_topics=[IMAGES],
        region_topics=[REGIONS],
    )
    table = guide.partition('<!-- interfaces -->')[2].partition('<!-- end -->')[0]
    named = {row for row in ROW.findall(table) if not OPTIONAL.match(row[1])}
    ros.spin_until(lambda: named <= interfaces(ros.node), START_SECONDS)
    assert interfaces(ros.node) - named == set()
    done = {(verb, name) for verb, name, _ in named}
    # The policy leaves region topics to the user.
    assert done - policy == {('subscribes', REGIONS)}
    assert {row for row in policy - done if not OPTIONAL.match(row[1])} == {
        # For simulated time.
        ('subscribes', '/clock'),
        ('subscribes', '/parameter_events'),
    }


def test_guide_explains_every_diagnostics_key(managed_node, user, guide):
    managed_node()
    publisher = user.publisher(IMAGES)
    user.activate(IMAGES)

    def keys():
        return {item.key for status in user.statuses for item in status.values}

    image_hw3 = np.zeros((36, 54, 3), np.uint8)
    for second in (5, 5, 0):
        header = Header(stamp=to_time(second * 10**9))
        publisher.publish(from_rgb(image_hw3, 'rgb8', header))
    user.wait_for(
        lambda: {'needs_ms', 'stamp_age_ms', 'start', 'duplicate', 'zero_stamp'} <= keys(),
        'diagnostics with counts of images',
    )
    possible = keys() | {placement.value for placement in Placement}
    assert possible - set(re.findall(r'`(\w+)`', guide)) == set()


def test_guide_explains_wait_for_action_goals_and_reasons(guide):
    text = (share_directory() / 'action' / 'WaitForAction.action').read_text(encoding='utf-8')
    reasons = re.findall(r'^uint8 ([A-Z_]+)=', text, re.MULTILINE)
    goal = re.findall(r'^[\w/]+(?:\[\])? ([a-z_]+)', text.partition('---')[0], re.MULTILINE)
    assert {'FOUND', 'labels', 'timeout'} <= {*reasons, *goal}
    assert [name for name in (*reasons, *goal) if f'`{name}`' not in guide] == []
