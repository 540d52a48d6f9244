# SPDX-License-Identifier: Apache-2.0
"""The synthetic tabletop: order law, determinism, splits, stream and views."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from step_ros.tabletop.scene import MOVABLES, Layout
from step_ros.tabletop.simulator import (
    ACTIONS,
    CAMERA_NAMES,
    COUNTERPARTS,
    SPLITS,
    STATE_NAMES,
    SURFACES,
    TASKS,
    TEXTURE_IDS,
    Clip,
    Tabletop,
    labels_of,
    render_clip,
)
from step_ros.tabletop.splits import (
    LONGEST_S,
    SHORTEST_S,
    draw_duration,
    random_for,
    split_of_duration,
)
from step_ros.tabletop.timeline import clip_motion

SMALL = (48, 36)
PAIRS = [(s.action, s.counterpart) for s in ACTIONS.values() if s.counterpart and not s.backward]
# Upper bound on the speed of the hand and of things, in metres per second.
FASTEST_HAND = 3.5


def states_of(action: str, seed: int, split: str = 'train', count: int = 40) -> np.ndarray:
    layout = Layout.draw(random_for(split, seed, 'layout'))
    motion = clip_motion(action, layout, seed=seed, split=split)
    times = np.linspace(0.0, motion.duration_s, count)
    hands = [motion.state_at(float(t), layout) for t in times]
    return np.array([[s.hand.x, s.hand.y, s.hand.z, s.hand.opening] for s in hands])


# Vocabulary


def test_tasks_have_complete_labels():
    assert len(TASKS['action']) == 16
    assert len(TASKS['verb']) == 12
    assert len(TASKS['object']) == 9
    for action in TASKS['action']:
        labels = labels_of(action)
        assert list(labels) == list(TASKS)
        assert all(label in TASKS[task] for task, label in labels.items())
    for task, known in TASKS.items():
        assert {labels_of(action)[task] for action in ACTIONS} == set(known)
        assert len(set(known)) == len(known)


def test_counterparts_are_symmetric():
    assert set(COUNTERPARTS) == set(TASKS)
    assert not COUNTERPARTS['object']
    for task, partners in COUNTERPARTS.items():
        for label, partner in partners.items():
            assert label != partner
            assert partners[partner] == label
            assert {label, partner} <= set(TASKS[task])
    assert len(COUNTERPARTS['action']) == 12
    assert len(COUNTERPARTS['verb']) == 8


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match='juggle'):
        render_clip('juggle', seed=0)
    with pytest.raises(ValueError, match='holdout'):
        render_clip('idle', seed=0, split='holdout', size=SMALL)
    with pytest.raises(ValueError, match='behind'):
        Tabletop(seed=0).render(0.0, camera='behind', size=SMALL)
    with pytest.raises(ValueError, match='rate'):
        render_clip('idle', seed=0, size=SMALL, rate=0.0)
    with pytest.raises(ValueError, match='begins at 0'):
        Tabletop(seed=0).segment_at(-0.1)


# The order law: the reversed clip of an action is the clip of its counterpart.


@pytest.mark.parametrize('pair', PAIRS)
@pytest.mark.parametrize(('seed', 'camera'), [(0, 'front'), (1, 'side'), (2, 'top')])
def test_reversed_clip_is_the_counterparts_clip(pair, seed, camera):
    forward, backward = (
        render_clip(a, seed=seed, camera=camera, size=SMALL, rate=8.0, noise=False) for a in pair
    )
    np.testing.assert_array_equal(forward.frames_thwc[::-1], backward.frames_thwc)
    np.testing.assert_array_equal(forward.states_ts[::-1], backward.states_ts)
    np.testing.assert_array_equal(forward.stamps_ns, backward.stamps_ns)
    # Without motion, the law would hold trivially.
    assert not np.array_equal(forward.frames_thwc, backward.frames_thwc)


def features_of(action: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features of a clip that ignore the order of frames, and features that use it."""
    clip = render_clip(action, seed=seed, size=(32, 24), rate=7.5)
    frames = clip.frames_thwc.reshape(len(clip.frames_thwc), 6, 4, 8, 4, 3).mean(axis=(2, 4))
    frames = frames.reshape(len(frames), -1) / 255.0
    both = np.concatenate([clip.states_ts, frames], axis=1)
    free = np.concatenate([both.mean(axis=0), both.std(axis=0), [len(frames)]])
    half = len(both) // 2
    return free, both[-half:].mean(axis=0) - both[:half].mean(axis=0)


def accuracy(features_nf: np.ndarray, labels_n: np.ndarray, folds: int = 5) -> tuple[int, int]:
    """Return the cross-validated hits of a ridge and of a nearest-mean classifier."""
    hits = np.zeros(2, int)
    for fold in range(folds):
        test = np.arange(len(labels_n)) % folds == fold
        mean, std = features_nf[~test].mean(axis=0), features_nf[~test].std(axis=0) + 1e-6
        train_x, test_x = ((features_nf[rows] - mean) / std for rows in (~test, test))
        train_y = 2.0 * labels_n[~test] - 1.0
        gram = train_x @ train_x.T + 30.0 * np.eye(len(train_x))
        ridge = test_x @ (train_x.T @ np.linalg.solve(gram, train_y - train_y.mean()))
        means = [train_x[train_y == side].mean(axis=0) for side in (-1.0, 1.0)]
        far = [np.square(test_x - middle).sum(axis=1) for middle in means]
        for k, scores in enumerate((ridge, far[0] - far[1])):
            hits[k] += int(((scores > 0.0) == labels_n[test].astype(bool)).sum())
    return int(hits[0]), int(hits[1])


@pytest.mark.research
def test_only_the_order_of_frames_separates_a_pair():
    count = 40
    # Labels are interleaved, so that every fold holds equally many clips of both.
    labels = np.tile([0, 1], count)
    right = {'free': np.zeros(2), 'ordered': np.zeros(2)}
    for number, pair in enumerate(PAIRS):
        # Both actions get different seeds: with equal seeds their statistics would be equal. All
        # pairs get different seeds: shared scenes would correlate their results.
        first = 1000 * number
        found = [features_of(pair[k % 2], first + k) for k in range(2 * count)]
        for name, columns in zip(right, zip(*found, strict=True), strict=True):
            right[name] += accuracy(np.stack(columns), labels)
    total = 2 * count * len(PAIRS)
    for share in right['free'] / total:
        # The chance level is 0.5, with a standard deviation of 0.023 over 480 clips.
        assert abs(share - 0.5) < 0.08
    for share in right['ordered'] / total:
        assert share > 0.9


# Splits


def test_splits_share_no_texture():
    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(TEXTURE_IDS[one]) & set(TEXTURE_IDS[other])
    for split in SPLITS:
        for seed in range(30):
            assert set(Tabletop(seed=seed, split=split).textures) <= set(TEXTURE_IDS[split])


def test_splits_share_no_speed_but_cover_the_range():
    for split in SPLITS:
        rng = np.random.default_rng(0)
        durations = [draw_duration(split, rng) for _ in range(500)]
        assert all(split_of_duration(duration) == split for duration in durations)
        assert SHORTEST_S < min(durations) < SHORTEST_S + 0.15
        assert LONGEST_S - 0.15 < max(durations) < LONGEST_S
        clip = render_clip('wave', seed=3, split=split, size=SMALL, rate=5.0)
        assert split_of_duration(clip.duration_s) == split
        segment = Tabletop(seed=3, split=split).segment_at(20.0)
        assert split_of_duration(segment.end_s - segment.start_s) == split


def test_equal_seeds_of_splits_give_different_numbers():
    numbers = {random_for(split, 5, 'look').integers(1 << 62) for split in SPLITS}
    assert len(numbers) == len(SPLITS)


# Clips


def test_clips_are_deterministic_and_depend_on_the_seed():
    first, again, other = (
        render_clip('open drawer', seed=seed, size=SMALL, rate=6.0) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first.frames_thwc, again.frames_thwc)
    assert first.duration_s != other.duration_s
    assert not np.array_equal(first.frames_thwc[0], other.frames_thwc[0])


@pytest.mark.parametrize('action', list(ACTIONS))
def test_clip_holds_the_whole_action(action):
    clip: Clip = render_clip(action, seed=6, split='val', size=SMALL, rate=10.0)
    count = len(clip.stamps_ns)
    assert clip.frames_thwc.shape == (count, SMALL[1], SMALL[0], 3)
    assert clip.frames_thwc.dtype == np.uint8
    assert clip.stamps_ns.dtype == np.int64
    assert clip.states_ts.shape == (count, len(STATE_NAMES))
    assert SHORTEST_S <= clip.duration_s <= LONGEST_S
    assert 0.0 <= clip.duration_s - clip.stamps_ns[-1] / 1e9 < 0.1
    np.testing.assert_allclose(np.diff(clip.stamps_ns), 1e8)
    assert clip.labels == labels_of(action)


def test_noise_is_small_and_can_be_turned_off():
    table = Tabletop(seed=2)
    clean = table.render(1.0, size=SMALL, noise=False).astype(int)
    noisy = table.render(1.0, size=SMALL).astype(int)
    assert 0.5 < np.abs(noisy - clean).mean() < 12.0
    np.testing.assert_array_equal(clean, Tabletop(seed=2).render(1.0, size=SMALL, noise=False))


def test_every_window_of_a_pair_shows_the_thing_move():
    for forward, backward in PAIRS:
        for seed, action in itertools.product(range(15), (forward, backward)):
            layout = Layout.draw(random_for('train', seed, 'layout'))
            motion = clip_motion(action, layout, seed=seed, split='train')
            held = min(motion.duration_s, motion.released) - motion.grasped
            for start in (0.0, motion.duration_s - 1.4):
                begin = max(start, motion.grasped)
                end = min(start + 1.4, motion.released)
                assert (end - begin) / held > 0.3


def test_only_idle_keeps_the_hand_still():
    for action in ACTIONS:
        path = [
            np.linalg.norm(np.diff(states_of(action, seed)[:, :3], axis=0), axis=1).sum()
            for seed in range(20)
        ]
        if action == 'idle':
            assert np.median(path) < 0.1
        else:
            assert min(path) > 0.3


# The stream


def test_segments_join_and_actions_are_balanced():
    table = Tabletop(seed=1)
    counts = dict.fromkeys(ACTIONS, 0)
    previous = table.segment_at(0.0)
    assert previous.start_s == 0.0
    while previous.end_s < 900.0:
        segment = table.segment_at(previous.end_s)
        assert segment.start_s == previous.end_s
        assert segment.labels == labels_of(segment.action)
        assert SHORTEST_S <= segment.end_s - segment.start_s <= LONGEST_S
        before, after = segment.world_before, segment.world_after
        assert previous.world_after.hand == before.hand
        assert previous.world_after.held == before.held
        assert previous.world_after.drawer == before.drawer
        if before.held is not None:
            assert segment.action in (f'lay down {before.held}', 'idle')
        if segment.action in ('open drawer', 'close drawer'):
            assert (before.drawer > 0.0) == (segment.action == 'close drawer')
            assert (after.drawer > 0.0) == (segment.action == 'open drawer')
        if segment.action in ('attach gear', 'detach gear'):
            assert before.gear_attached == (segment.action == 'detach gear')
            assert after.gear_attached == (segment.action == 'attach gear')
        if segment.action in ('push left box', 'push right box'):
            moved = after.places['box'][0] - before.places['box'][0]
            assert abs(moved) > 0.15
            assert (moved > 0.0) == (segment.action == 'push right box')
        counts[segment.action] += 1
        previous = segment
    assert min(counts.values()) > 0.7 * max(counts.values())


def test_stream_has_no_jumps():
    step = 1.0 / 60.0
    table = Tabletop(seed=8, split='val')
    previous = table.state_at(0.0)
    for index in range(1, 60 * 90):
        state = table.state_at(index * step)
        hands = [np.array([s.hand.x, s.hand.y, s.hand.z]) for s in (previous, state)]
        assert np.linalg.norm(hands[1] - hands[0]) < FASTEST_HAND * step
        for name in MOVABLES:
            moved = np.linalg.norm(state.poses[name].xyz - previous.poses[name].xyz)
            assert moved < FASTEST_HAND * step
            turned = state.poses[name].rotation_33 - previous.poses[name].rotation_33
            assert np.abs(turned).max() < 0.2
        assert abs(state.drawer_extension - previous.drawer_extension) < 10.0 * step
        assert abs(state.dial_angle - previous.dial_angle) < 15.0 * step
        assert abs(state.hand.opening - previous.hand.opening) < 10.0 * step
        previous = state


def test_stream_can_be_rendered_in_any_order():
    onward, random_access = Tabletop(seed=3), Tabletop(seed=3)
    times = [0.2, 7.3, 31.0, 64.9]
    forward = [onward.render(t, size=SMALL) for t in times]
    backward = [random_access.render(t, size=SMALL) for t in reversed(times)]
    for one, other in zip(forward, reversed(backward), strict=True):
        np.testing.assert_array_equal(one, other)


def test_stream_plays_backward_actions_backward():
    """A lay-down ends with the thing on the table, a pick-up with the thing in the hand."""
    table, seen, at = Tabletop(seed=5), set(), 0.0
    while len(seen) < 6:
        segment = table.segment_at(at)
        verb, thing = segment.labels['verb'], segment.labels['object']
        if verb in ('pick up', 'lay down'):
            seen.add(segment.action)
            ends = table.state_at(segment.start_s + 1e-6), table.state_at(segment.end_s - 1e-6)
            down, up = ends if verb == 'pick up' else ends[::-1]
            assert (down.held, up.held) == (None, thing)
            assert abs(down.poses[thing].xyz[2]) < 1e-9
            assert up.poses[thing].xyz[2] > 0.1
        at = segment.end_s


# Views and images


def test_views_differ_and_any_size_is_rendered():
    table = Tabletop(seed=0)
    views = [table.render(2.0, camera=name, size=SMALL).astype(int) for name in CAMERA_NAMES]
    for one, other in itertools.combinations(views, 2):
        assert np.abs(one - other).mean() > 10.0
    for size in [(640, 480), (320, 240), (160, 120), (128, 96), (224, 224), (31, 17), (1, 1)]:
        assert table.render(2.0, size=size).shape == (size[1], size[0], 3)


def test_view_jitter_follows_the_seed():
    cameras = {Tabletop(seed=seed).camera('front') for seed in range(4)}
    steady = {Tabletop(seed=seed, view_jitter=False).camera('front') for seed in range(4)}
    assert (len(cameras), len(steady)) == (4, 1)


def test_supervision_lists_the_visible_surfaces():
    table = Tabletop(seed=4)
    image, supervision = table.render_supervised(3.0, size=(160, 120), noise=False)
    np.testing.assert_array_equal(image, table.render(3.0, size=(160, 120), noise=False))
    assert supervision.ids_hw.shape == image.shape[:2]
    assert supervision.ids_hw.max() < len(SURFACES)
    visible = {SURFACES[k] for k in np.flatnonzero(supervision.visible_k)}
    assert {'background', 'table', 'person', 'hand', 'box', 'unit', 'dial'} <= visible
    assert supervision.state_vector.shape == (len(STATE_NAMES),)


def test_surface_map_agrees_with_the_projection():
    table = Tabletop(seed=4)
    camera, size = table.camera('top'), (160, 120)
    _, supervision = table.render_supervised(0.0, camera=camera, size=size)
    x, y, z, _ = table.layout.dial_top
    column, row = camera.project(np.array([[x, y, z + 0.03]]), size)[0]
    assert SURFACES[supervision.ids_hw[round(row), round(column)]] == 'dial'


def test_state_vector_is_scaled_and_marks_the_held_thing():
    table = Tabletop(seed=7)
    columns = {name: k for k, name in enumerate(STATE_NAMES)}
    assert len(columns) == len(STATE_NAMES)
    vectors = []
    for at in np.arange(0.0, 60.0, 0.25):
        vector = table.render_supervised(float(at), size=(16, 12))[1].state_vector
        held = table.state_at(float(at)).held
        for name in (*MOVABLES, 'drawer', 'dial'):
            assert vector[columns[f'{name}_held']] == float(name == held)
        vectors.append(vector)
    assert np.abs(vectors).max() < 1.6
    assert np.std(vectors, axis=0)[columns['hand_x']] > 0.05
