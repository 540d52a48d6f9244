# SPDX-License-Identifier: Apache-2.0
"""Plays bags to a perception node over DDS and records its output, for `step_ros replay --online`.

Three programs run per bag; `OnlineReplay` has the parameters of each:

    player --images--> perception node --hypotheses, events, statuses--> recorder --> online.json
"""

import math
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.storage import COMPRESSED_IMAGE
from step_ros.replay.node_output import NodeOutput
from step_ros.replay.run import ReplayResult
from step_ros.reporting.progress import track
from step_ros.ros.perception.parameters import PERCEPTION
from step_ros.ros.processes import NodeProcess, wait_until
from step_ros.ros.qos import DEPTH
from step_ros.ros.replay.player import CLOCK_PERIOD
from step_ros.ros.replay.recorder import RECORDING

RECORDING_FILE = 'online.json'
# Environment variable with the number of the ROS domain, and the greatest number.
DOMAIN = 'ROS_DOMAIN_ID'
_LAST_DOMAIN = 232
# A replay takes one of these domains; numbers up to 101 are safe on every system.
_OWN_DOMAINS = range(50, 100)
# Hypotheses that may wait for the recorder: a recorder that is slow for a moment loses none.
_DEPTH = 1000
# Seconds that `ros2 bag play` waits before the first message, so that the node finds it.
_DISCOVERY_SECONDS = 3.0
# After the bag: discovery, the node's last diagnostics, deactivation.
_END_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class OnlineReplay:
    """The playing of a bag to a node, with the parameters of all three programs.

    Attributes:
        bag: Path of the bag.
        topics: Image topics to play, one for each camera.
        values: Parameters of the perception node, as the user chose them.
        rate: Speed of playing; 1 as recorded.
        folder: For the recorded output and the logs.
    """

    bag: Path
    topics: tuple[str, ...]
    values: Mapping[str, Any]
    rate: float
    folder: Path

    @property
    def recording(self) -> Path:
        """The file that the recorder writes."""
        return self.folder / RECORDING_FILE

    def prepare(self) -> None:
        """Make the folder; delete the recording of an earlier playing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recording.unlink(missing_ok=True)

    def perception(self) -> dict[str, Any]:
        """Return the parameters of the perception node.

        They are the user's, except those that would make the node differ from the offline replay.
        The offline replay names each camera by its topic, uses whole images, treats every camera
        by itself, gives the scores of all labels, runs torch in float32, and loses no camera.

        Raises:
            BagError: The bag has raw and compressed images, and the topics' names do not tell
                which is which.
        """
        return {
            **self.values,
            'autostart': True,
            'use_sim_time': True,
            'cameras': list(self.topics),
            'image_topics': list(self.topics),
            'active_cameras': [''],
            'active_tasks': [''],
            'region_topics': [''],
            'fusion': 'none',
            'transport': self._transport(),
            'reliability': 'reliable',
            'stream_timeout': 0.0,
            'runtime': 'torch',
            'precision': 'float32',
            'top_k': _DEPTH,
            f'qos_overrides.{PERCEPTION}/hypotheses.publisher.depth': _DEPTH,
            f'qos_overrides.{PERCEPTION}/events.publisher.depth': _DEPTH,
        }

    def recorder(self) -> dict[str, Any]:
        """Return the parameters of the recorder."""
        return {
            'perception': PERCEPTION,
            'cameras': list(self.topics),
            'image_topics': list(self.topics),
            'output': str(self.recording.resolve()),
        }

    def player(self) -> dict[str, Any]:
        """Return the parameters of the player."""
        return {
            'bag': str(self.bag.resolve()),
            'topics': list(self.topics),
            'rate': float(self.rate),
        }

    def _transport(self) -> str:
        bag = BagReader(self.bag)
        bag.require_images(self.topics)
        compressed = [bag.topics[topic].type == COMPRESSED_IMAGE for topic in self.topics]
        if len(set(compressed)) == 1:
            return 'compressed' if compressed[0] else 'raw'
        for topic, packed in zip(self.topics, compressed, strict=True):
            if packed != topic.endswith('/compressed'):
                raise BagError(
                    self.bag,
                    f'{topic} has {"compressed" if packed else "raw"} images, other topics the '
                    'other kind; the node recognises compressed images by topics that end in '
                    '/compressed. Replay each kind by itself: --topic',
                )
        return 'auto'


def play_replayed(
    result: ReplayResult,
    bags: Mapping[str, Path],
    values: Mapping[str, Any],
    *,
    rate: float,
    output: Path,
    shown: bool = True,
) -> dict[tuple[str, str], NodeOutput]:
    """Play every replayed bag to a node, with every bundle, one after the other.

    Args:
        result: The offline replay.
        bags: Paths of the bags by their names.
        values: Parameters of the perception node.
        rate: Speed of playing; 1 as recorded.
        output: Folder for recorded output and logs.
        shown: Whether to show a progress bar.

    Returns:
        The output of the nodes, by name of the bag and title of the bundle.

    Raises:
        BagError: A bag cannot be played.
        NodeError: A program failed.
    """
    pairs = {
        (recording.bag, bundle.title): (bundle, recording.bag)
        for bundle in result.bundles
        for recording in result.recordings[bundle.title]
    }
    outputs = {}
    for key, (bundle, name) in track(pairs.items(), 'play to a node', shown=shown):
        recordings = result.recordings[bundle.title]
        replay = OnlineReplay(
            bag=bags[name],
            topics=tuple(each.predictions.topic for each in recordings if each.bag == name),
            values={**values, 'bundle': str(bundle.path.resolve())},
            rate=rate,
            folder=output / 'online' / name / bundle.model_id,
        )
        outputs[key] = play_online(replay)
    return outputs


def play_online(replay: OnlineReplay) -> NodeOutput:
    """Play a bag to a node of its own; return the output of the node.

    Raises:
        BagError: The bag cannot be played.
        NodeError: A program failed.
    """
    replay.prepare()
    with ExitStack() as stack:

        def start(name: str, parameters: Mapping[str, Any]) -> NodeProcess:
            process = NodeProcess(name, log=replay.folder / f'{name}.log', parameters=parameters)
            stack.callback(process.stop)
            return process

        node = start('perception_node', replay.perception())
        recorder = start('replay_recorder', replay.recorder())
        wait_until(
            lambda: RECORDING in recorder.log_tail(),
            [node, recorder],
            'the connection to the active node',
        )
        player = start('bag_player', replay.player())
        # Without a time limit: a bag may be long.
        wait_until(
            lambda: player.exit_code is not None,
            [node, recorder],
            'the end of the bag',
            seconds=math.inf,
        )
        if player.exit_code:
            player.check()
        wait_until(
            lambda: recorder.exit_code is not None,
            [node],
            "the recorder's file",
            seconds=_END_SECONDS,
        )
        if recorder.exit_code:
            recorder.check()
    return NodeOutput.load(replay.recording)


def isolation(wanted: str = '', *, live: str) -> dict[str, str]:
    """Return environment variables that keep the played bag and `/clock` from a running robot.

    Args:
        wanted: ROS domain to play in; empty for one of its own.
        live: Domain of this environment, in which a robot may run; may be empty.

    Raises:
        ValueError: `wanted` is no number of a domain.
    """
    if wanted and not (wanted.isdecimal() and int(wanted) <= _LAST_DOMAIN):
        raise ValueError(f'domain {wanted!r}: expected a number from 0 to {_LAST_DOMAIN}')
    own = [str(number) for number in _OWN_DOMAINS if str(number) != live.strip()]
    return {
        DOMAIN: wanted or own[os.getpid() % len(own)],
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }


def find_player(wanted: str) -> str:
    """Return the player to use: `builtin` or `ros2bag`.

    Args:
        wanted: `builtin`, `ros2bag`, or `auto` for `ros2bag` if it is installed.

    Raises:
        ValueError: The player is unknown or not installed.
    """
    installed = shutil.which('ros2') is not None and find_spec('ros2bag') is not None
    if wanted == 'auto':
        return 'ros2bag' if installed else 'builtin'
    if wanted not in ('builtin', 'ros2bag'):
        raise ValueError(f'player {wanted!r}: expected auto, builtin or ros2bag')
    if wanted == 'ros2bag' and not installed:
        raise ValueError('player ros2bag: ros2 bag is not installed; choose builtin')
    return wanted


def ros2_bag_play(replay: OnlineReplay) -> list[str]:
    """Return the command with which `ros2 bag play` plays as `BagPlayer` does.

    Also write a file with QoS profiles beside the recording. Without it, `ros2 bag play` publishes
    best effort, as the cameras did.
    """
    profiles = replay.folder / 'qos.yaml'
    profile = {'history': 'keep_last', 'depth': DEPTH, 'reliability': 'reliable'}
    profiles.write_text(
        yaml.safe_dump({topic: {**profile, 'durability': 'volatile'} for topic in replay.topics}),
        encoding='utf-8',
    )
    return [
        *('ros2', 'bag', 'play', str(replay.bag)),
        *('--clock', f'{1 / CLOCK_PERIOD:g}', '--rate', f'{replay.rate:g}'),
        # Unlike `BagPlayer`, it does not wait for subscriptions.
        *('--delay', f'{_DISCOVERY_SECONDS:g}', '--disable-keyboard-controls'),
        *('--qos-profile-overrides-path', str(profiles), '--topics', *replay.topics),
    ]
