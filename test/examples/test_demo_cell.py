# SPDX-License-Identifier: Apache-2.0
"""The examples as a user runs them: two robots, a camera and the perception node."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / 'examples'


@pytest.mark.timeout(300)
def test_two_robots_act_on_events_and_print_why(tmp_path):
    pytest.importorskip('py_trees', reason='the behaviour tree needs py_trees')
    environment = {
        **os.environ,
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100),
    }
    done = subprocess.run(
        [
            *(sys.executable, str(EXAMPLES / 'demo_cell.py')),
            *('--parts', '1', '--rounds', '1', '--output', str(tmp_path)),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    output = done.stdout
    assert done.returncode == 0, output + done.stderr
    assert 'Traceback' not in done.stderr
    holding = output.index('[hand_over] holding part 1')
    handing = output.index("[hand_over] handing over part 1 of 1, because of 'lay down ")
    assert holding < handing
    moving = output.index("[tree]      moving the arm away, because: 'pick up ")
    helping = [
        output.find(f'[tree]      {what}') for what in ('taking the part', 'leaving the per')
    ]
    assert moving < max(helping)
    assert output.index('[tree]      1 rounds done') > max(helping)
