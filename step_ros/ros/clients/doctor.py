# SPDX-License-Identifier: Apache-2.0
"""What `step_ros doctor` asks running perception nodes: state, cameras and diagnostics."""

import os
import time
from collections.abc import Callable, Iterator

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from step_ros.reporting.doctor import Finding, Level
from step_ros.ros.clients.perception_client import DIAGNOSTICS
from step_ros.ros.spinning_node import SpinningNode

AREA = 'perception node'
INFO_TYPE = 'step_ros/msg/ModelInfo'
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
# Seconds until the nodes are surely known, and until each has published its diagnostics once.
DISCOVERY_SECONDS = 2.0
DIAGNOSTICS_SECONDS = 2.5
# Seconds that a node may take to answer.
ANSWER_SECONDS = 3.0
_PERIOD = 0.05
_QUEUE_DEPTH = 50
_LEVELS: dict[bytes, Level] = {
    DiagnosticStatus.OK: 'ok',
    DiagnosticStatus.WARN: 'warning',
    DiagnosticStatus.ERROR: 'error',
    DiagnosticStatus.STALE: 'error',
}


def node_findings(seconds: float = DISCOVERY_SECONDS) -> list[Finding]:
    """Return findings about the perception nodes of this domain; one note if there is none.

    Args:
        seconds: How long to look for nodes.

    Raises:
        RosEnvironmentError: ROS 2 cannot start in this environment.
    """
    client = SpinningNode(f'step_ros_doctor_{os.getpid()}')
    statuses: dict[str, DiagnosticStatus] = {}

    def keep(message: DiagnosticArray) -> None:
        statuses.update({status.name: status for status in message.status})

    try:
        client.node.create_subscription(DiagnosticArray, DIAGNOSTICS, keep, _QUEUE_DEPTH)
        client.start()
        time.sleep(seconds)
        nodes = perception_nodes(client.node)
        if not nodes:
            return [Finding(AREA, 'note', 'none is running in this domain and range')]
        _wait(lambda: all(_own(statuses, name) for name in nodes), DIAGNOSTICS_SECONDS)
        found: list[Finding] = []
        for name in nodes:
            found.append(_state(client.node, name))
            # Only an active node subscribes.
            if found[-1].level == 'ok':
                found += _cameras(client.node, name)
            found += _diagnostics(name, _own(statuses, name))
        return found
    finally:
        client.close()


def perception_nodes(node: Node) -> list[str]:
    """Return the full names of the perception nodes that a node has discovered.

    Args:
        node: The node that looks at the graph.
    """
    topics = [topic for topic, kinds in node.get_topic_names_and_types() if INFO_TYPE in kinds]
    return sorted(
        {
            full_name(info)
            for topic in topics
            for info in node.get_publishers_info_by_topic(topic)
            # The graph finds a publisher before it finds the name of its node.
            if not info.node_name.startswith('_NODE_NAME_UNKNOWN')
        }
    )


def full_name(info: TopicEndpointInfo) -> str:
    """Return the full name of the node of a publisher or a subscription."""
    return f'{info.node_namespace.rstrip("/")}/{info.node_name}'


def _state(node: Node, name: str) -> Finding:
    client = node.create_client(GetState, f'{name}/get_state')
    try:
        _wait(client.service_is_ready, ANSWER_SECONDS)
        future = client.call_async(GetState.Request())
        if not _wait(future.done, ANSWER_SECONDS):
            return Finding(
                AREA,
                'error',
                f'{name} does not answer within {ANSWER_SECONDS:g} s',
                'look at its log: it may be busy loading a model, or hang; else start it again',
            )
        state = future.result().current_state
    finally:
        node.destroy_client(client)
    if state.id == State.PRIMARY_STATE_ACTIVE:
        return Finding(AREA, 'ok', f'{name} is active')
    wanted = 'configure' if state.id == State.PRIMARY_STATE_UNCONFIGURED else 'activate'
    return Finding(
        AREA,
        'error',
        f'{name} is {state.label}, so it publishes nothing',
        f'ros2 lifecycle set {name} {wanted}',
    )


def _cameras(node: Node, name: str) -> Iterator[Finding]:
    """Yield a finding for each image topic to which the node subscribes."""
    topics = node.get_topic_names_and_types()
    found = False
    for topic, _ in topics:
        for subscription in node.get_subscriptions_info_by_topic(topic):
            if full_name(subscription) == name and subscription.topic_type in IMAGE_TYPES:
                found = True
                publishers = node.get_publishers_info_by_topic(topic)
                yield _camera(name, topic, subscription, publishers)
    if not found:
        yield Finding(
            AREA,
            'error',
            f'{name} subscribes to no images',
            'set the parameters image_topics and active_cameras',
        )


def _camera(
    name: str,
    topic: str,
    subscription: TopicEndpointInfo,
    publishers: list[TopicEndpointInfo],
) -> Finding:
    kind = subscription.topic_type
    if not publishers:
        return Finding(
            AREA,
            'error',
            f'{name} subscribes to {topic}, but nobody publishes it',
            'start the camera driver, or set image_topics to a topic of `ros2 topic list`',
        )
    fitting = [each for each in publishers if each.topic_type == kind]
    if not fitting:
        return Finding(
            AREA,
            'error',
            f'{name} expects {kind} on {topic}, but it carries {publishers[0].topic_type}',
            'set the parameters image_topics and transport to what the driver publishes',
        )
    reliable = ReliabilityPolicy.RELIABLE
    if subscription.qos_profile.reliability == reliable and not any(
        each.qos_profile.reliability == reliable for each in fitting
    ):
        return Finding(
            AREA,
            'error',
            f'{name} requests {topic} as reliable, but it is offered as best effort',
            'set the parameter reliability to auto and configure again',
        )
    text = f'{name} receives {topic} from {", ".join(sorted(map(full_name, fitting)))}'
    if len(fitting) > 1:
        return Finding(AREA, 'warning', text, 'let one driver alone publish it')
    return Finding(AREA, 'ok', text)


def _diagnostics(name: str, statuses: list[DiagnosticStatus]) -> Iterator[Finding]:
    if not statuses:
        yield Finding(
            AREA,
            'warning',
            f'{name} published no diagnostics within {DIAGNOSTICS_SECONDS:g} s',
            f'look at its log, and whether another node publishes {DIAGNOSTICS}',
        )
    for status in statuses:
        level = _LEVELS.get(status.level, 'warning')
        if level != 'ok':
            mend = 'docs/troubleshooting.md explains the messages of /diagnostics'
            yield Finding(AREA, level, f'{status.name}: {status.message}', mend)


def _own(statuses: dict[str, DiagnosticStatus], name: str) -> list[DiagnosticStatus]:
    return [status for key, status in list(statuses.items()) if key.partition(': ')[0] == name]


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether a condition came to hold within a time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_PERIOD)
    return True
