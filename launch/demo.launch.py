# SPDX-License-Identifier: Apache-2.0
"""Launch a synthetic camera and a perception node that subscribes to it.

It also takes the arguments of perception.launch.py. Without `image_topics`, the node subscribes to
the topic of the camera.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription, Substitution
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from step_ros.ros.camera.parameters import PARAMETERS as DECLARED
from step_ros.ros.launch_values import overrides, parameter_files

# Arguments that are parameters of the camera node, with their descriptions.
PARAMETERS = {
    'source': 'Source of the images: tabletop, or the path of a video file',
    'loop': 'Whether a video restarts when it ends: true or false',
    'seed': 'Number of the tabletop scene',
    'view': 'Viewpoint on the tabletop: front, side or top',
    'rate': "Images per second; 0: at the times of a video's frames",
    'width': 'Image width in pixels',
    'transport': 'Image messages: raw or compressed',
    'reliability': 'Reliability of the images: best_effort or reliable',
}
OTHERS = {
    'camera_params_file': 'ROS parameter file for the camera node',
    'namespace': 'Namespace of the perception node; the camera is in camera/ below it',
    'use_sim_time': 'Whether the nodes use simulated time from /clock: true or false',
}
TRUTH = ['true', 'false', 'True', 'False', '1', '0']
# The values that an argument may have; empty leaves the value to the parameter file.
CHOICES = {
    **{each.name: ['', *each.choices] for each in DECLARED if each.choices},
    **{name: ['', *TRUTH] for name in ('loop', 'use_sim_time')},
}


class ImageTopics(Substitution):
    """The topics that the user gives, else the camera's: a relative one, for any namespace."""

    def perform(self, context: LaunchContext) -> str:
        """Return the value of the argument `image_topics` for the perception node."""
        texts = context.launch_configurations
        suffix = '/compressed' if texts.get('transport', '').strip() == 'compressed' else ''
        return texts.get('image_topics', '').strip() or f'camera/image_raw{suffix}'


def camera(context: LaunchContext) -> list[Node]:
    """Return the camera node, once the values of the arguments are known."""
    texts = {name: LaunchConfiguration(name).perform(context) for name in (*PARAMETERS, *OTHERS)}
    values = overrides(
        'camera.yaml', {name: texts[name] for name in (*PARAMETERS, 'use_sim_time')}
    )
    files = parameter_files('camera_params_file', texts['camera_params_file'])
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
    """Return the arguments, the camera node and the perception node."""
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
            name, default_value='', description=f'{meaning}.', choices=CHOICES.get(name)
        )
        for name, meaning in OTHERS.items()
    ]
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name('perception.launch.py'))),
        launch_arguments={'image_topics': ImageTopics()}.items(),
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=camera), perception])
