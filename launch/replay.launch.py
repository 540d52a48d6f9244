# SPDX-License-Identifier: Apache-2.0
"""Play a bag to the perception node, and compare its output with the offline replay of the bag.

The player starts when the recorder reports that the node is active. The recorder ends when the
node has processed the whole bag. Then `step_ros replay --against` compares and writes the report.
All programs run in a ROS domain of their own: the player publishes `/clock`, which must not reach
the nodes of a running robot. If a program fails, or node and replay do not agree, so does `ros2
launch`: its exit code is 1.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch.events.process import ProcessExited, ProcessIO
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from step_ros.io.bags.reader import BagReader
from step_ros.resources import find_bundle, load_defaults, read_parameters
from step_ros.ros.launch_values import overrides, typed_value
from step_ros.ros.replay.online import (
    DOMAIN,
    OnlineReplay,
    find_player,
    isolation,
    ros2_bag_play,
)
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
    'node': (
        '',
        'Node whose section of params_file counts, as /robot1/perception. Empty: the only one of '
        'a node called perception',
    ),
    'domain': (
        '',
        'ROS domain to play in, 0 to 232. Empty: one of its own, so that no running node receives '
        '/clock',
    ),
}


class ReplayError(RuntimeError):
    """A program of the replay failed, or node and offline replay do not agree."""


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return node, recorder, player and comparison, once the arguments are known."""
    names = ('bag', *PARAMETERS, *OTHERS)
    texts = {name: LaunchConfiguration(name).perform(context).strip() for name in names}
    bag, out = Path(texts['bag']), Path(texts['out'])
    values = load_defaults('perception.yaml')
    if texts['params_file']:
        values |= read_parameters(Path(texts['params_file']), known=values, node=texts['node'])
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
        '--node': texts['node'],
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
    environment = isolation(texts['domain'], live=os.environ.get(DOMAIN, ''))
    started, ended = [], []

    def play(event: ProcessIO) -> list[LaunchDescriptionEntity] | None:
        if started or RECORDING not in event.text.decode(errors='replace'):
            return None
        started.append(True)
        return [player]

    def end(why: str) -> list[LaunchDescriptionEntity]:
        """End the launch as a failure; empty `why` for success."""
        # The first reason counts: afterwards every program ends.
        if ended:
            return []
        ended.append(why)
        if why:
            return [OpaqueFunction(function=_fail, args=[why])]
        return [EmitEvent(event=Shutdown(reason='node and offline replay agree'))]

    def compare(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
        if event.returncode or not online.recording.is_file():
            return end(f'the recorder failed or recorded nothing{_code(event)}')
        return [] if ended else [comparison]

    def after(
        why: str, *, always: bool = False
    ) -> Callable[[ProcessExited, LaunchContext], list[LaunchDescriptionEntity]]:
        def ends(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
            return end(f'{why}{_code(event)}') if event.returncode or always else []

        return ends

    def after_comparison(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
        failed = f'the bag could not be replayed, or node and replay differ{_code(event)}'
        return end(failed if event.returncode else '')

    return [
        *(SetEnvironmentVariable(name, value) for name, value in environment.items()),
        LogInfo(msg=f'{DOMAIN}={environment[DOMAIN]}'),
        perception,
        recorder,
        RegisterEventHandler(OnProcessIO(target_action=recorder, on_stdout=play, on_stderr=play)),
        *(
            RegisterEventHandler(OnProcessExit(target_action=process, on_exit=handle))
            for process, handle in (
                (recorder, compare),
                (player, after('the player failed')),
                (perception, after('the perception node ended', always=True)),
                (comparison, after_comparison),
            )
        ),
    ]


def _code(event: ProcessExited) -> str:
    return f' (exit code {event.returncode})'


def _fail(context: LaunchContext, why: str) -> None:
    """End the launch: of an exception, the launch service makes the exit code 1."""
    # On Ctrl-C every program ends, and none failed.
    if not getattr(context, 'is_shutdown', False):
        raise ReplayError(why)


def _node(executable: str, name: str, parameters: dict[str, object]) -> Node:
    return Node(
        package='step_ros',
        executable=executable,
        name=name,
        parameters=[parameters],
        output='screen',
        emulate_tty=True,
    )


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
