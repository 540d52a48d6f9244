# SPDX-License-Identifier: Apache-2.0
"""Launch the perception node. An empty argument leaves the value to the parameter file.

The node is configured and activated by itself (`autostart`), by this launch file
(`lifecycle_manager:=true`), or by a lifecycle manager of the robot (`autostart:=false`).
"""

import asyncio

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueCoroutine,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.ros_adapters import get_ros_node
from lifecycle_msgs.msg import Transition

from step_ros.ros.launch_values import overrides, parameter_files, typed_value
from step_ros.ros.perception.parameters import PARAMETERS as DECLARED

# Arguments that are parameters of the node, with their descriptions.
PARAMETERS = {
    'image_topics': 'Image topics, separated by commas or as a YAML list; a topic without a '
    'leading slash is in the namespace',
    'cameras': 'Names of the cameras, one for each image topic, in the same order',
    'region_topics': 'Topic of each camera with the region of the person, in the same order',
    'fusion': 'none, or mean if all cameras show one scene: one hypothesis for all of them',
    'bundle': 'Model bundle: a folder, or the name of a bundle shipped with the package',
    'device': 'Device of the encoder: auto, cpu, cuda or cuda:N',
    'runtime': 'Runtime of the encoder: auto, torch, openvino, onnx, openvino-int8, or the folder '
    'of an exported encoder',
    'transport': 'Image messages: raw, compressed, or auto: compressed if the topic ends in '
    '/compressed',
    'reliability': 'Reliability of the image subscriptions: best_effort, reliable, or auto: that '
    'of the publishers',
    'threads': 'CPU threads of torch and OpenCV; 0: measured when the node is configured',
    'on_threshold': 'Score from which a label starts an event, 0 to 1',
    'off_threshold': 'Score below which a label ends its event, 0 to 1',
    'autostart': 'Whether the node configures and activates itself: true or false',
    'use_sim_time': 'Whether the node uses simulated time from /clock: true or false',
}
OTHERS = {
    'params_file': ('', 'ROS parameter file for the node'),
    'namespace': ('', 'Namespace of the node, for example one for each robot'),
    'name': ('perception', 'Name of the node, for example if two of them share a namespace'),
    'log_level': ('info', 'Least severe messages in the log'),
    'lifecycle_manager': (
        'false',
        'Whether this launch file configures and activates the node each time it starts, instead '
        'of autostart: true or false',
    ),
    'respawn': (
        'false',
        'Whether to restart the node each time its process ends, even after exit code 0 or '
        'SIGTERM: true or false',
    ),
}
TRUTH = ['true', 'false', 'True', 'False', '1', '0']
# The values that an argument may have. Those of a parameter come from its declaration; empty
# leaves the value to the parameter file.
CHOICES = {
    **{each.name: ['', *each.choices] for each in DECLARED if each.choices},
    **{name: ['', *TRUTH] for name in ('autostart', 'use_sim_time')},
    **dict.fromkeys(('lifecycle_manager', 'respawn'), TRUTH),
    'log_level': ['debug', 'info', 'warn', 'error', 'fatal'],
}

# Seconds between two looks at the graph for the node.
LOOK_PERIOD = 0.2
# Seconds from the node's first topic in the graph until its services are there, too.
SERVICES_SECONDS = 1.0


def perception(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the node, and the handlers that manage it, once the arguments are known."""
    texts = {name: LaunchConfiguration(name).perform(context) for name in (*PARAMETERS, *OTHERS)}
    values = overrides('perception.yaml', {name: texts[name] for name in PARAMETERS})
    managed = bool(typed_value('lifecycle_manager', texts['lifecycle_manager'], False))
    if managed:
        values['autostart'] = False
    files = parameter_files('params_file', texts['params_file'])
    node = LifecycleNode(
        package='step_ros',
        executable='perception_node',
        name=texts['name'].strip() or 'perception',
        namespace=texts['namespace'],
        # The level of this node alone: rcl's own messages at level debug would hide ours.
        ros_arguments=['--log-level', f'{logger_name(texts)}:={texts["log_level"] or "info"}'],
        parameters=[*files, *([values] if values else [])],
        output='screen',
        emulate_tty=True,
        respawn=bool(typed_value('respawn', texts['respawn'], False)),
        respawn_delay=2.0,
    )
    return [*(manager(node) if managed else []), node]


def logger_name(texts: dict[str, str]) -> str:
    """Return the name of the node's logger: namespace and name, with dots between the parts."""
    name = texts['name'].strip() or 'perception'
    parts = [*texts['namespace'].strip().split('/'), name]
    return '.'.join(part for part in parts if part)


def manager(node: LifecycleNode) -> list[RegisterEventHandler]:
    """Return handlers that configure and activate a node each time it starts (Humble or later).

    A killed process stays in the graph for a while, and a request sent to it would be lost. So the
    request waits for a publisher of the node that was not in the graph before.
    """
    known: set[tuple[int, ...]] = set()

    def change(transition: int) -> ChangeState:
        return ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)

    async def configure(context: LaunchContext) -> None:
        graph = get_ros_node(context)
        topic = f'{node.node_name}/transition_event'
        while True:
            found = graph.get_publishers_info_by_topic(topic)
            new = {tuple(each.endpoint_gid) for each in found} - known
            if new:
                break
            await asyncio.sleep(LOOK_PERIOD)
        known.update(new)
        await asyncio.sleep(SERVICES_SECONDS)
        await context.emit_event(change(Transition.TRANSITION_CONFIGURE))

    return [
        RegisterEventHandler(
            OnProcessStart(
                target_action=node,
                on_start=lambda event, context: [OpaqueCoroutine(coroutine=configure)],
            )
        ),
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state='configuring',
                goal_state='inactive',
                entities=[EmitEvent(event=change(Transition.TRANSITION_ACTIVATE))],
            )
        ),
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                goal_state='active',
                entities=[LogInfo(msg='the perception node is active')],
            )
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and the node."""
    arguments = [
        DeclareLaunchArgument(
            name,
            default_value='',
            description=f'{meaning}. Empty: the value of the parameter file.',
            choices=CHOICES.get(name),
        )
        for name, meaning in PARAMETERS.items()
    ]
    arguments += [
        DeclareLaunchArgument(
            name,
            default_value=default,
            description=f'{meaning}.',
            choices=CHOICES.get(name),
        )
        for name, (default, meaning) in OTHERS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=perception)])
