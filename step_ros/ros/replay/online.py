"""A bag through DDS: a player, a perception node and a recorder as processes of their own."""

import math
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

ANSWERS = 'online.json'
# Hypotheses that may be on their way: none is lost to a recorder that is slow for a moment.
_DEPTH = 1000
# How long node and player of `ros2 bag play` have to find each other.
_DISCOVERY_SECONDS = 3.0
# After the bag: discovery, the node's last diagnoses, deactivation.
_END_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class OnlineReplay:
    """A bag that is to be played to a node; the parameters of all three programs.

    Attributes:
        bag: Its path.
        topics: Its cameras.
        values: Those of the perception node that the user chose, all others by default.
        rate: How many times as fast as it was recorded.
        folder: For the answers.
    """

    bag: Path
    topics: tuple[str, ...]
    values: Mapping[str, Any]
    rate: float
    folder: Path

    @property
    def answers(self) -> Path:
        """The file that the recorder writes."""
        return self.folder / ANSWERS

    def prepare(self) -> None:
        """Make the folder; what an earlier playing left is no answer to this one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.answers.unlink(missing_ok=True)

    def perception(self) -> dict[str, Any]:
        """Return the parameters of the perception node.

        They are the user's, but for what would let it do something else than the offline replay:
        that one knows each camera by its topic, looks at whole images of every camera by itself,
        tells the scores of all labels, computes by torch in float32, and never loses a camera.

        Raises:
            BagError: It has raw and compressed images whose topics do not say so.
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
            'output': str(self.answers.resolve()),
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
                    f'{topic} has {"compressed" if packed else "raw"} images, others the other '
                    'kind; the node tells them by topics that end in /compressed. Replay each '
                    'kind by itself: --topic',
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
    """Play all that was replayed to nodes, one after the other.

    Args:
        result: The replay.
        bags: Paths of the bags by their names.
        values: The node's parameters.
        rate: How many times as fast as they were recorded.
        output: Folder for answers and logs.
        shown: Whether there is a progress bar.

    Returns:
        What the nodes said, by name of the bag and title of the bundle.

    Raises:
        BagError: A bag cannot be played.
        NodeError: A program failed.
    """
    wanted = {
        (recording.bag, bundle.title): (bundle, recording.bag)
        for bundle in result.bundles
        for recording in result.recordings[bundle.title]
    }
    said = {}
    for key, (bundle, name) in track(wanted.items(), 'play to a node', shown=shown):
        recordings = result.recordings[bundle.title]
        replay = OnlineReplay(
            bag=bags[name],
            topics=tuple(each.predictions.topic for each in recordings if each.bag == name),
            values={**values, 'bundle': str(bundle.path.resolve())},
            rate=rate,
            folder=output / 'online' / name / bundle.model_id,
        )
        said[key] = play_online(replay)
    return said


def play_online(replay: OnlineReplay) -> NodeOutput:
    """Play a bag to a node of its own, and return what that said.

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
        wait_until(lambda: RECORDING in recorder.log_tail(), [node, recorder], 'the active node')
        player = start('bag_player', replay.player())
        # A bag may be long.
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
            'what the node said',
            seconds=_END_SECONDS,
        )
        if recorder.exit_code:
            recorder.check()
    return NodeOutput.load(replay.answers)


def find_player(wanted: str) -> str:
    """Return which player to take: `builtin` or `ros2bag`.

    Args:
        wanted: One of these, or `auto`: `ros2bag` where that is installed.

    Raises:
        ValueError: It is another one, or not installed.
    """
    there = shutil.which('ros2') is not None and find_spec('ros2bag') is not None
    if wanted == 'auto':
        return 'ros2bag' if there else 'builtin'
    if wanted not in ('builtin', 'ros2bag'):
        raise ValueError(f'player {wanted!r}: expected auto, builtin or ros2bag')
    if wanted == 'ros2bag' and not there:
        raise ValueError('player ros2bag: ros2 bag is not installed; take builtin')
    return wanted


def ros2_bag_play(replay: OnlineReplay) -> list[str]:
    """Return the command by which `ros2 bag play` does what our player does.

    A file beside the answers makes it reliable: bags keep the best effort of their cameras.
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
        # It does not wait for subscriptions.
        *('--delay', f'{_DISCOVERY_SECONDS:g}', '--disable-keyboard-controls'),
        *('--qos-profile-overrides-path', str(profiles), '--topics', *replay.topics),
    ]
