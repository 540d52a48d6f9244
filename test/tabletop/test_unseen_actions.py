# SPDX-License-Identifier: Apache-2.0
"""The tabletop's unseen actions: unknown to the shipped heads, and true to the order law."""

import numpy as np
import pytest

from step_ros.tabletop.scene import TABLE_SIZE, Layout
from step_ros.tabletop.simulator import TASKS
from step_ros.tabletop.splits import LONGEST_S, SHORTEST_S, random_for
from step_ros.tabletop.unseen_actions import (
    UNSEEN_ACTIONS,
    UNSEEN_COUNTERPARTS,
    UNSEEN_TASK,
    render_unseen_action,
    unseen_motion,
)

SMALL = (48, 36)
PAIRS = [
    (action.label, action.counterpart) for action in UNSEEN_ACTIONS.values() if action.backward
]
FASTEST_HAND = 3.5


def test_unseen_actions_are_no_labels_of_shipped_heads():
    known = {label for labels in TASKS.values() for label in labels}
    assert not known & set(UNSEEN_ACTIONS)
    assert UNSEEN_TASK not in TASKS


def test_pairs_are_symmetric_and_share_a_motion():
    assert len(PAIRS) >= 2
    assert len(set(UNSEEN_ACTIONS) - set(UNSEEN_COUNTERPARTS)) >= 2
    for label, partner in UNSEEN_COUNTERPARTS.items():
        assert UNSEEN_COUNTERPARTS[partner] == label != partner
        assert UNSEEN_ACTIONS[label].motion == UNSEEN_ACTIONS[partner].motion
        assert UNSEEN_ACTIONS[label].backward != UNSEEN_ACTIONS[partner].backward


@pytest.mark.parametrize(('one', 'other'), PAIRS)
@pytest.mark.parametrize('seed', [0, 5])
def test_pair_shows_the_same_frames_in_opposite_order(one, other, seed):
    clips = [
        render_unseen_action(label, seed=seed, split='val', size=SMALL, rate=7.0, noise=False)
        for label in (one, other)
    ]
    assert np.array_equal(clips[0].frames_thwc, clips[1].frames_thwc[::-1])
    assert not np.array_equal(clips[0].frames_thwc, clips[1].frames_thwc)


@pytest.mark.parametrize('label', UNSEEN_ACTIONS)
def test_hand_is_smooth_and_things_stay_on_the_table(label):
    for seed in range(20):
        layout = Layout.draw(random_for('train', seed, 'layout'))
        motion = unseen_motion(label, layout, seed=seed, split='train')
        assert SHORTEST_S <= motion.duration_s <= LONGEST_S
        times = np.linspace(0.0, motion.duration_s, 120)
        states = [motion.state_at(float(time), layout) for time in times]
        hand = np.array([[s.hand.x, s.hand.y, s.hand.z] for s in states])
        speed = np.linalg.norm(np.diff(hand, axis=0), axis=1) / (times[1] - times[0])
        assert speed.max() < FASTEST_HAND
        assert np.ptp(hand, axis=0).max() > 0.08
        for state in (states[0], states[-1]):
            assert state.held is None
            for pose in state.poses.values():
                x, y, z = pose.xyz
                assert abs(x) < TABLE_SIZE[0] / 2
                assert abs(y) < TABLE_SIZE[1] / 2
                assert z >= 0


@pytest.mark.parametrize('label', UNSEEN_ACTIONS)
def test_held_things_do_not_jump(label):
    layout = Layout.draw(random_for('test', 3, 'layout'))
    motion = unseen_motion(label, layout, seed=3, split='test')
    times = np.linspace(0.0, motion.duration_s, 400)
    for name in ('cup', 'bottle', 'box'):
        places = np.array([motion.state_at(float(t), layout).poses[name].xyz for t in times])
        assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 0.03


def test_clip_depends_on_seed_and_split_alone():
    def clip(**changes):
        options = {'seed': 1, 'split': 'train', 'size': SMALL, 'rate': 5.0, **changes}
        return render_unseen_action('slide cup left', **options)

    assert np.array_equal(clip().frames_thwc, clip().frames_thwc)
    assert clip().labels == {UNSEEN_TASK: 'slide cup left'}
    assert clip().textures != clip(split='test').textures
    assert not np.array_equal(clip().frames_thwc[0], clip(seed=2).frames_thwc[0])


def test_unknown_unseen_action_is_refused():
    with pytest.raises(ValueError, match="unknown action 'open drawer'; expected one of"):
        render_unseen_action('open drawer', seed=0)
