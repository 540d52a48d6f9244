"""Launch a synthetic camera and the perception node that looks through it.

Takes the arguments of perception.launch.py too, but for the image topics: they are the camera's.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node

from step_ros.ros.launch_values import overrides

# Arguments that are parameters of the camera node, and what they mean.
PARAMETERS = {
    'source': 'What the camera sees: tabletop, or the path of a video file',
    'loop': 'Whether a video begins again when it ends: true or false',
    'seed': 'Number of the tabletop scene',
    'view': 'From where the tabletop is seen: front, side or top',
    'rate': "Images per second; 0: a video's own times",
    'width': 'Image width in pixels',
    'transport': 'raw or compressed images',
    'reliability': 'best_effort or reliable images',
}
OTHERS = {
    'camera_params_file': 'ROS parameter file with values for the camera node',
    'namespace': 'Namespace of both nodes; the camera is in camera/ below it',
    'use_sim_time': 'Whether time comes from /clock: true or false',
}


def camera(context: LaunchContext) -> list[Node]:
    """Describe the camera node once the values of the arguments are known."""
    texts = {name: LaunchConfiguration(name).perform(context) for name in (*PARAMETERS, *OTHERS)}
    values = overrides(
        'camera.yaml', {name: texts[name] for name in (*PARAMETERS, 'use_sim_time')}
    )
    files = [texts['camera_params_file']] if texts['camera_params_file'] else []
    return [
        Node(
            package='step_ros',
            executable='camera_node',
            name='camera',
            namespace=texts['namespace'].rstrip('/') + '/camera',
            parameters=[*files, *([values] if values else [])],
            output='screen',
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Describe the arguments, the camera and the perception node."""
    arguments = [
        DeclareLaunchArgument(
            name,
            default_value='',
            description=f'{meaning}. Empty: as in the parameter file.',
        )
        for name, meaning in PARAMETERS.items()
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value='', description=f'{meaning}.')
        for name, meaning in OTHERS.items()
    ]
    # Relative, so that it is found in any namespace.
    suffix = PythonExpression(
        ["'/compressed' if '", LaunchConfiguration('transport'), "' == 'compressed' else ''"]
    )
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name('perception.launch.py'))),
        launch_arguments={'image_topics': ['camera/image_raw', suffix]}.items(),
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=camera), perception])
