# SPDX-License-Identifier: Apache-2.0
"""Camera fusion: which views belong to one moment, and their mean scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis
from step_ros.streaming.postprocessing.fusion import FUSED, CameraFusion

MS = 1_000_000
PERIOD = 200 * MS
CAMERAS = ('front', 'side', 'top')
SPEC = TaskSpec(name='action', labels=('open', 'close'))


def make_view(camera, stamp_ms, score=0.5, evidence=0.5):
    return Hypothesis(
        camera=camera,
        frame_id=f'{camera}_optical',
        stamp_ns=stamp_ms * MS,
        window_start_ns=stamp_ms * MS - 3 * PERIOD,
        received_ns=stamp_ms,
        tasks=(
            TaskHypothesis(
                spec=SPEC, scores_k=np.array([score, 1 - score]), order_evidence=evidence
            ),
        ),
    )


def fusion(cameras=CAMERAS[:2]):
    return CameraFusion(cameras, tolerance_ns=120 * MS, stale_ns=5 * PERIOD)


def test_scores_of_one_moment_are_averaged():
    views = fusion()
    assert views.add_hypothesis(make_view('front', 5200, 0.9, evidence=0.2)) == []
    [fused] = views.add_hypothesis(make_view('side', 5250, 0.5, evidence=0.4))
    assert fused.camera == FUSED
    assert (fused.stamp_ns, fused.window_start_ns) == (5250 * MS, 5200 * MS - 3 * PERIOD)
    assert (fused.frame_id, fused.received_ns) == ('side_optical', 5250)
    [task] = fused.tasks
    assert task.scores_k == pytest.approx([0.7, 0.3])
    assert task.order_evidence == pytest.approx(0.3)


def test_dead_camera_is_waited_for_only_until_stale():
    views = fusion()
    for stamp_ms in (0, 200):
        views.add_hypothesis(make_view('front', 5000 + stamp_ms))
        views.add_hypothesis(make_view('side', 5000 + stamp_ms))
    fused_views = [
        len(views.add_hypothesis(make_view('front', 5400 + 200 * n, n / 10))) for n in range(8)
    ]
    # Each view completes when the next one comes, until the side camera counts as dead.
    assert fused_views == [0, 1, 1, 1, 1, 2, 1, 1]


def test_late_view_is_dropped():
    views = fusion()
    views.add_hypothesis(make_view('front', 5000))
    views.add_hypothesis(make_view('side', 5000))
    views.add_hypothesis(make_view('front', 5200))
    [alone] = views.add_hypothesis(make_view('front', 5400))
    assert alone.stamp_ns == 5200 * MS
    assert views.add_hypothesis(make_view('side', 5200)) == []
    assert views.late == 1
    [fused] = views.add_hypothesis(make_view('side', 5400))
    assert fused.stamp_ns == 5400 * MS


def test_views_too_far_apart_are_not_fused():
    views = fusion()
    stamps = [
        [fused.stamp_ns // MS for fused in views.add_hypothesis(make_view(camera, stamp_ms))]
        for camera, stamp_ms in [('front', 5000), ('side', 5150), ('front', 5200), ('side', 5350)]
    ]
    # The next moment pairs the views that are nearest to each other.
    assert stamps == [[], [5000], [5200], []]


def test_jump_back_resets_the_fusion():
    views = fusion()
    for stamp_ms in (5000, 5200, 100, 300):
        views.add_hypothesis(make_view('front', stamp_ms, 0.1))
        fused_views = views.add_hypothesis(make_view('side', stamp_ms, 0.9))
    [fused] = fused_views
    assert fused.stamp_ns == 300 * MS
    assert fused.tasks[0].scores_k == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ('fields', 'expected'),
    [
        ({'cameras': ('front',)}, 'at least two'),
        ({'cameras': ('front', 'front')}, 'at least two'),
        ({'tolerance_ns': 0}, 'tolerance_ns=0'),
        ({'stale_ns': -1}, 'stale_ns=-1'),
    ],
)
def test_invalid_arguments_are_refused(fields, expected):
    given_fields = {'cameras': CAMERAS, 'tolerance_ns': PERIOD, 'stale_ns': PERIOD}
    with pytest.raises(ValueError, match=expected):
        CameraFusion(**(given_fields | fields))


steps = st.tuples(st.sampled_from(CAMERAS), st.integers(1, 1500), st.floats(0, 1))


@given(st.lists(steps, max_size=60))
def test_moments_ascend_and_each_view_counts_once(course):
    views = fusion(CAMERAS)
    stamps = dict.fromkeys(CAMERAS, 5000)
    fused_views, given_views = [], []
    for camera, step_ms, score in course:
        stamps[camera] += step_ms
        given_views.append(make_view(camera, stamps[camera], score))
        fused_views += views.add_hypothesis(given_views[-1])
    newest = [fused.stamp_ns for fused in fused_views]
    assert newest == sorted(set(newest))
    assert len(fused_views) <= len(given_views) - views.late
    scores = [view.tasks[0].scores_k[0] for view in given_views]
    for fused in fused_views:
        assert fused.stamp_ns in [view.stamp_ns for view in given_views]
        assert fused.stamp_ns - fused.window_start_ns <= 3 * PERIOD + 2 * 120 * MS
        score = fused.tasks[0].scores_k[0]
        assert min(scores) - 1e-9 <= score <= max(scores) + 1e-9


@given(st.permutations(CAMERAS), st.integers(2, 6))
def test_moment_has_all_views_in_any_order_of_arrival(order, moments):
    views = fusion(CAMERAS)
    fused = []
    for moment in range(moments):
        for number, camera in enumerate(order):
            score = (moment + number) / 10
            fused += views.add_hypothesis(make_view(camera, 5000 + 200 * moment, score))
    assert [each.stamp_ns // MS for each in fused] == [5000 + 200 * n for n in range(moments)]
    for moment, each in enumerate(fused):
        assert each.tasks[0].scores_k[0] == pytest.approx((moment + 1) / 10)
