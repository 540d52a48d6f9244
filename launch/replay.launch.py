# SPDX-License-Identifier: Apache-2.0
"""Play a bag to the perception node, and compare its output with the offline replay of the bag.

The player starts when the recorder reports that the node is active. The recorder ends when the
node has processed the whole bag. Then `step_ros replay --against` compares and writes the report.
"""

import sys
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.events.process import ProcessExited, ProcessIO
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from step_ros.io.bags.reader import BagReader
from step_ros.resources import find_bundle, load_defaults, read_parameters
from step_ros.ros.launch_values import overrides, typed_value
from step_ros.ros.replay.online import OnlineReplay, find_player, ros2_bag_play
from step_ros.ros.replay.recorder import RECORDING

# Arguments that are parameters of the perception node, with their descriptions.
PARAMETERS = {
    'bundle': 'Model bundle: a folder, or the name of a bundle shipped with the package',
    'device': 'Device of encoder and heads: auto, cpu, cuda or cuda:N',
    'threads': 'CPU threads of torch. 0: the node takes one thread for a small model that is not '
    "much faster with all, else all; the offline replay takes torch's default",
}
OTHERS = {
    'topics': ('', 'Image topics, separated by commas. Empty: all of the bag'),
    'labels': ('', 'True labels: a topic or a CSV file. Empty: the only label topic of the bag'),
    'out': ('runs/replay', 'Folder for the report'),
    'rate': ('1.0', 'Speed of playing, as a multiple of the recorded speed'),
    'player': (
        'auto',
        'Player: ros2bag (ros2 bag play), builtin (bag_player of this package), or auto: ros2bag '
        'if it is installed',
    ),
    'params_file': ('', 'ROS parameter file for the perception node'),
}


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return node, recorder, player and comparison, once the arguments are known."""
    names = ('bag', *PARAMETERS, *OTHERS)
    texts = {name: LaunchConfiguration(name).perform(context).strip() for name in names}
    bag, out = Path(texts['bag']), Path(texts['out'])
    values = load_defaults('perception.yaml')
    if texts['params_file']:
        values |= read_parameters(Path(texts['params_file']), known=values)
    values |= overrides('perception.yaml', {name: texts[name] for name in PARAMETERS})
    bundle = find_bundle(str(values['bundle'])).resolve()
    topics = [topic for topic in texts['topics'].split(',') if topic] or BagReader(
        bag
    ).image_topics
    online = OnlineReplay(
        bag=bag,
        topics=tuple(topics),
        values={**values, 'bundle': str(bundle)},
        rate=float(typed_value('rate', texts['rate'], 1.0)),
        folder=out / 'online' / bag.resolve().name,
    )
    online.prepare()
    perception = _node('perception_node', 'perception', online.perception())
    recorder = _node('replay_recorder', 'replay_recorder', online.recorder())
    if find_player(texts['player']) == 'ros2bag':
        player = ExecuteProcess(cmd=ros2_bag_play(online), output='screen')
    else:
        player = _node('bag_player', 'bag_player', online.player())
    options = {
        '--labels': texts['labels'],
        '--bundle': str(bundle),
        '--device': texts['device'],
        '--threads': texts['threads'],
        '--params-file': texts['params_file'],
        '--against': str(online.recording),
    }
    comparison = ExecuteProcess(
        cmd=[
            *(sys.executable, '-m', 'step_ros.cli', 'replay', str(bag), '--out', str(out)),
            *(part for topic in topics for part in ('--topic', topic)),
            *(part for option, text in options.items() if text for part in (option, text)),
        ],
        output='screen',
        name='replay',
    )
    started = []

    def play(event: ProcessIO) -> list[LaunchDescriptionEntity] | None:
        if started or RECORDING not in event.text.decode(errors='replace'):
            return None
        started.append(True)
        return [player]

    def compare(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
        if event.returncode or not online.recording.is_file():
            return [_end('the recorder failed or recorded nothing')]
        return [comparison]

    def after_player(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
        return [_end('the player failed')] if event.returncode else []

    return [
        perception,
        recorder,
        RegisterEventHandler(OnProcessIO(target_action=recorder, on_stdout=play, on_stderr=play)),
        RegisterEventHandler(OnProcessExit(target_action=recorder, on_exit=compare)),
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=after_player)),
        *(
            RegisterEventHandler(OnProcessExit(target_action=process, on_exit=[_end(why)]))
            for process, why in (
                (perception, 'the perception node ended'),
                (comparison, 'the comparison ended'),
            )
        ),
    ]


def _node(executable: str, name: str, parameters: dict[str, object]) -> Node:
    return Node(
        package='step_ros',
        executable=executable,
        name=name,
        parameters=[parameters],
        output='screen',
        emulate_tty=True,
    )


def _end(why: str) -> EmitEvent:
    return EmitEvent(event=Shutdown(reason=why))


def generate_launch_description() -> LaunchDescription:
    """Return the arguments, and the function that creates the processes."""
    arguments = [
        DeclareLaunchArgument('bag', description='The bag: a folder, or a .mcap or .db3 file.')
    ]
    arguments += [
        DeclareLaunchArgument(
            name,
            default_value='',
            description=f'{meaning}. Empty: the value of the parameter file.',
        )
        for name, meaning in PARAMETERS.items()
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value=default, description=f'{meaning}.')
        for name, (default, meaning) in OTHERS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=replay)])
