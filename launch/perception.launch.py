"""Launch the perception node. An argument left empty leaves its value to the parameter file.

Who brings the node up: itself (`autostart`), this launch (`lifecycle_manager:=true`), or a manager
of the robot's own (`autostart:=false`).
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

from step_ros.ros.launch_values import overrides, typed_value

# Arguments that are parameters of the node, and what they mean.
PARAMETERS = {
    'image_topics': 'Image topics, with commas between them or as a YAML list; one that does not '
    'begin with / lies in the namespace',
    'cameras': 'Names of the cameras, one for each image topic in the same order',
    'region_topics': 'Topics with the region of each camera to look at, in the same order',
    'fusion': 'Whether the cameras show one scene that is answered as one: none or mean',
    'bundle': 'Model bundle: a folder, or the name of one that the package ships',
    'device': 'Where the encoder runs: auto, cpu, cuda or cuda:N',
    'runtime': 'What runs the encoder: auto, torch, openvino, onnx, openvino-int8 or a folder',
    'autostart': 'Whether the node configures and activates itself: true or false',
    'use_sim_time': 'Whether time comes from /clock: true or false',
}
OTHERS = {
    'params_file': ('', 'ROS parameter file with values for the node'),
    'namespace': ('', 'Namespace of the node, one for each robot'),
    'lifecycle_manager': (
        'false',
        'Whether this launch configures and activates the node, in place of autostart, whenever '
        'it starts: true or false',
    ),
    'respawn': ('false', 'Whether to start the node again when it dies: true or false'),
}

# How often a manager looks whether the node is there, in seconds.
LOOK_PERIOD = 0.2
# How long the node's services may take to be there, too.
SETTLE_SECONDS = 1.0


def perception(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Describe the node, and perhaps what manages it, once the arguments are known."""
    texts = {name: LaunchConfiguration(name).perform(context) for name in (*PARAMETERS, *OTHERS)}
    values = overrides('perception.yaml', {name: texts[name] for name in PARAMETERS})
    managed = bool(typed_value('lifecycle_manager', texts['lifecycle_manager'], False))
    if managed:
        values['autostart'] = False
    files = [texts['params_file']] if texts['params_file'] else []
    node = LifecycleNode(
        package='step_ros',
        executable='perception_node',
        name='perception',
        namespace=texts['namespace'],
        parameters=[*files, *([values] if values else [])],
        output='screen',
        emulate_tty=True,
        respawn=bool(typed_value('respawn', texts['respawn'], False)),
        respawn_delay=2.0,
    )
    return [*(manager(node) if managed else []), node]


def manager(node: LifecycleNode) -> list[RegisterEventHandler]:
    """Describe what configures and activates a node whenever it starts, on any ROS 2 since Humble.

    A process that was killed seems to be there for a while, and would take a request to its grave.
    So the request waits for a publisher of the node that was not there before.
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
        await asyncio.sleep(SETTLE_SECONDS)
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
    """Describe the arguments and the node."""
    arguments = [
        DeclareLaunchArgument(
            name,
            default_value='',
            description=f'{meaning}. Empty: as in the parameter file.',
        )
        for name, meaning in PARAMETERS.items()
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value=default, description=f'{meaning}.')
        for name, (default, meaning) in OTHERS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=perception)])
