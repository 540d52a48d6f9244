# SPDX-License-Identifier: Apache-2.0
"""The requirements of the node are judged on the runs that can show them."""

import pytest

from step_ros.ros.benchmarks.node import NODE_COLUMNS, node_table, requirements_table
from step_ros.ros.benchmarks.node_run import (
    NodeTimes,
    Requirement,
    node_requirements,
    off_grid_cost,
)

LATENCY = {'p50': 10.0, 'p95': 12.0, 'p99': 20.0, 'max': 21.0}


def run(cameras, rate, *, executor=4.0, added=6.0):
    return NodeTimes(
        cameras=cameras,
        rate=rate,
        seconds=20.0,
        hypotheses=100 * cameras,
        hypotheses_per_s=5.0 * cameras,
        latency_ms=LATENCY,
        added_ms=dict.fromkeys(LATENCY, added),
        lost_percent=0.0,
        behind_percent=0.0,
        dropped_percent=0.0,
        transport_lost_percent=0.0,
        received_per_s=cameras * rate,
        cpu_percent={
            'executor': executor,
            'model': 5.0,
            'dds': 1.0,
            'publisher': 50.0,
            'listener': 50.0,
            'others': 50.0,
        },
        resident_mb=900.0,
        late_ms=LATENCY,
        skipped=0,
    )


def test_an_off_grid_frame_costs_the_difference_between_rates():
    # Three percent of a core more for thirty more frames a second: one millisecond each.
    rows = [run(4, 15.0), run(1, 45.0, executor=7.0), run(1, 15.0, executor=4.0), run(4, 60.0)]
    cost, slow, fast = off_grid_cost(rows)
    assert cost == pytest.approx(1.0)
    assert (slow.cameras, slow.rate, fast.rate) == (1, 15.0, 45.0)


def test_one_rate_shows_no_cost_of_off_grid_frames():
    assert off_grid_cost([run(1, 30.0), run(4, 30.0)]) is None
    assert off_grid_cost([]) is None


@pytest.mark.parametrize(('added', 'passed'), [(14.9, True), (15.0, False)])
def test_added_latency_is_required_of_one_camera_at_30_hz(added, passed):
    (requirement,) = node_requirements([run(1, 30.0, added=added), run(4, 30.0, added=99.0)])
    assert requirement.measured == added
    assert requirement.passed is passed
    assert ('NO' in requirements_table([requirement])) is not passed


def test_the_table_has_a_row_for_each_run():
    header, _, *lines = node_table([run(1, 30.0), run(8, 15.0)]).splitlines()
    assert [cell.strip() for cell in header.strip('|').split('|')] == list(NODE_COLUMNS)
    assert [line.split('|')[1].strip() for line in lines] == ['1', '8']


def test_a_requirement_keeps_its_keys_in_json():
    requirement = Requirement(what='latency, ms', measured=3.0, required='below 15', passed=True)
    assert requirement.as_dict() == {
        'what': 'latency, ms',
        'measured': 3.0,
        'bar': 'below 15',
        'passed': True,
    }
