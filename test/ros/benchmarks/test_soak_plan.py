# SPDX-License-Identifier: Apache-2.0
"""The times of a soak follow from its length and its number of cameras."""

import pytest

from step_ros.ros.benchmarks.soak import SoakPlan
from step_ros.ros.qos import DEPTH


def plan(**changes):
    return SoakPlan(**{'seconds': 600.0, 'cameras': 4, 'rate': 30.0, 'size': (64, 48), **changes})


@pytest.mark.parametrize('changes', [{'seconds': 0.0}, {'cameras': 0}])
def test_a_plan_without_time_or_cameras_is_refused(changes):
    with pytest.raises(ValueError, match='expected at least one camera, and more than 0 s'):
        plan(**changes)


@pytest.mark.parametrize(('rate', 'seconds'), [(5.0, 1.0), (30.0, 2 / 3), (100.0, 0.2)])
def test_the_node_is_held_up_until_its_queue_overflows(rate, seconds):
    held = plan(rate=rate).hold_seconds
    assert held == pytest.approx(seconds)
    assert held * rate >= min(2 * DEPTH, rate)


@pytest.mark.parametrize(('seconds', 'cameras'), [(600.0, 4), (600.0, 1), (120.0, 2)])
def test_each_camera_is_restarted_several_times(seconds, cameras):
    restarts = seconds / plan(seconds=seconds, cameras=cameras).restart_every
    assert restarts / cameras >= 5


def test_cameras_have_no_gaps_or_jumps_before_the_run():
    steady, restless = plan().steady_publisher('/a'), plan().publisher('/a')
    assert (steady.gap_every, steady.jump_every) == (0.0, 0.0)
    assert min(restless.gap_every, restless.jump_every) > 0
    assert (steady.topics, steady.rate, steady.width, steady.height) == (['/a'], 30.0, 64, 48)
