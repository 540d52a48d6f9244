"""Launch the perception node. An argument left empty leaves its value to the parameter file."""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from step_ros.ros.launch_values import overrides, typed_value

# Arguments that are parameters of the node, and what they mean.
PARAMETERS = {
    'image_topics': 'Image topics, with commas between them or as a YAML list',
    'cameras': 'Names of the cameras, one for each image topic in the same order',
    'bundle': 'Model bundle: a folder, or the name of one that the package ships',
    'device': 'Where the encoder runs: auto, cpu, cuda or cuda:N',
    'autostart': 'Whether the node configures and activates itself: true or false',
    'use_sim_time': 'Whether time comes from /clock: true or false',
}
OTHERS = {
    'params_file': ('', 'ROS parameter file with values for the node'),
    'namespace': ('', 'Namespace of the node'),
    'respawn': ('false', 'Whether to start the node again when it dies: true or false'),
}


def perception(context: LaunchContext) -> list[LifecycleNode]:
    """Describe the node once the values of the arguments are known."""
    texts = {name: LaunchConfiguration(name).perform(context) for name in (*PARAMETERS, *OTHERS)}
    values = overrides('perception.yaml', {name: texts[name] for name in PARAMETERS})
    files = [texts['params_file']] if texts['params_file'] else []
    return [
        LifecycleNode(
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
