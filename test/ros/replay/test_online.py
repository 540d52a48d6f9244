# SPDX-License-Identifier: Apache-2.0
"""A bag played to a node over DDS gives the hypotheses of the offline replay."""

import shutil

import numpy as np
import pytest
import torch
import yaml

from step_ros.io.bags.metadata import BagError
from step_ros.io.bags.reader import BagReader
from step_ros.io.bags.writer import BagWriter
from step_ros.replay.agreement import compare_replay
from step_ros.replay.node_output import NodeOutput
from step_ros.replay.run import ReplayPlan, name_bags, replay
from step_ros.resources import load_defaults
from step_ros.ros.replay.online import (
    OnlineReplay,
    find_player,
    isolation,
    play_replayed,
    ros2_bag_play,
)
from step_ros.streaming.settings import StreamSettings

FRONT, SIDE = '/front/image_raw', '/side/image_raw/compressed'
# The scores of a tiny, untrained model are low.
EAGER = {'on_threshold': 0.2, 'off_threshold': 0.1, 'minimum_duration': 0.1, 'minimum_gap': 0.1}


def online(bag, *topics, folder=None):
    return OnlineReplay(
        bag=bag,
        topics=topics,
        values={'threads': 1},
        rate=2.0,
        folder=folder or bag.parent,
    )


@pytest.fixture
def noise(tmp_path):
    """A bag of two cameras at 20 Hz, 3 s long, whose images all differ."""
    random = np.random.default_rng(1)
    with BagWriter(tmp_path / 'noise') as writer:
        for number in range(60):
            for topic, encoding in ((FRONT, 'rgb8'), (SIDE, 'png')):
                image = random.integers(0, 256, (32, 48, 3), np.uint8)
                writer.image(topic, image, 10**18 + number * 50_000_000, encoding=encoding)
    return tmp_path / 'noise'


def test_node_and_replay_agree(noise, tiny_bundle, tmp_path):
    values = {
        **load_defaults('perception.yaml'),
        **EAGER,
        'smoothing': 0.2,
        # The online replay must override this: it treats each camera by itself.
        'fusion': 'mean',
        'device': 'cpu',
        'threads': 1,
    }
    plan = ReplayPlan(
        labels='',
        topics=(),
        settings=StreamSettings.from_values(values),
        top_k=3,
        device=torch.device('cpu'),
    )
    out = tmp_path / 'out'
    result = replay([noise], [tiny_bundle.path], plan, output=out, shown=False)
    assert not result.failures
    outputs = play_replayed(result, name_bags([noise]), values, rate=1.0, output=out, shown=False)
    found = {each.camera: each.found for each in compare_replay(result, outputs)}
    assert set(found) == {FRONT, SIDE}
    for each in found.values():
        assert each.agrees, each
        assert (each.received, each.frames) == (60, 60)
        # A window of four frames at 10 Hz: all but the first three slots have a hypothesis.
        assert each.both == each.offline == each.online == 27
        assert each.differences == []
        assert each.events > 0
        assert each.greatest_score < 1e-6


def test_a_node_of_another_bundle_is_not_compared(noise, tiny_bundle, orderless_bundle, tmp_path):
    values = {**load_defaults('perception.yaml'), **EAGER}
    plan = ReplayPlan(
        labels='',
        topics=(FRONT,),
        settings=StreamSettings.from_values(values),
        top_k=3,
        device=torch.device('cpu'),
    )
    result = replay([noise], [tiny_bundle.path], plan, output=tmp_path / 'out', shown=False)
    node_output = NodeOutput(
        model_id=orderless_bundle.model_id, hypotheses=[], events=[], tallies={}
    )
    with pytest.raises(ValueError, match=f'the node ran {orderless_bundle.model_id}'):
        compare_replay(result, {('noise', 'tiny'): node_output})


def test_the_transport_follows_the_kinds_of_images(noise, tmp_path):
    assert online(noise, FRONT).perception()['transport'] == 'raw'
    assert online(noise, SIDE).perception()['transport'] == 'compressed'
    assert online(noise, FRONT, SIDE).perception()['transport'] == 'auto'
    with pytest.raises(BagError, match="topic '/other'"):
        online(noise, '/other').perception()
    image = np.zeros((16, 24, 3), np.uint8)
    with BagWriter(tmp_path / 'odd') as writer:
        writer.image('/a', image, 10**18)
        writer.image('/b', image, 10**18, encoding='png')
    with pytest.raises(BagError, match='/b has compressed images, other topics the other kind'):
        online(tmp_path / 'odd', '/a', '/b').perception()


def test_online_parameters_keep_the_users_settings(noise):
    values = load_defaults('perception.yaml')
    replayed = OnlineReplay(
        bag=noise, topics=(FRONT,), values=values, rate=1.0, folder=noise.parent
    ).perception()
    settings = StreamSettings.from_values(values)
    assert StreamSettings.from_values(replayed) == settings
    assert replayed['bundle'] == values['bundle']
    assert replayed['cameras'] == [FRONT]


def test_ros2_bag_plays_reliably_with_a_clock(noise, tmp_path):
    command = ros2_bag_play(online(noise, FRONT, SIDE, folder=tmp_path))
    assert command[:4] == ['ros2', 'bag', 'play', str(noise)]
    assert command[command.index('--rate') + 1] == '2'
    assert command[command.index('--clock') + 1] == '100'
    # `--topics` takes all arguments that follow.
    assert command[command.index('--topics') :] == ['--topics', FRONT, SIDE]
    profiles = yaml.safe_load((tmp_path / 'qos.yaml').read_text())
    assert {each['reliability'] for each in profiles.values()} == {'reliable'}
    assert set(profiles) == set(BagReader(noise).image_topics)


def test_auto_chooses_the_installed_player():
    installed = shutil.which('ros2') is not None
    assert find_player('builtin') == 'builtin'
    assert find_player('auto') in ({'builtin', 'ros2bag'} if installed else {'builtin'})
    with pytest.raises(ValueError, match="player 'vlc': expected auto, builtin or ros2bag"):
        find_player('vlc')
    if not installed:
        with pytest.raises(ValueError, match='not installed; choose builtin'):
            find_player('ros2bag')


@pytest.mark.parametrize('live', ['', '0', '7', *map(str, range(50, 100))])
def test_bag_is_played_in_a_domain_of_its_own(live):
    environment = isolation(live=live)
    assert environment['ROS_DOMAIN_ID'] not in (live, '0', '')
    assert environment['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert isolation('3', live='3')['ROS_DOMAIN_ID'] == '3'


@pytest.mark.parametrize('wanted', ['233', '-1', 'mine', '1.5'])
def test_number_that_is_no_domain_is_refused(wanted):
    with pytest.raises(ValueError, match=f"domain '{wanted}': expected a number from 0 to 232"):
        isolation(wanted, live='')
