# SPDX-License-Identifier: Apache-2.0
"""Arrows point down only: the contracts in `pyproject.toml` hold, and would notice a breach."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = 'from importlinter.cli import lint_imports_command; lint_imports_command()'


def lint_imports(folder):
    """Check the package in a folder; return the exit status and what was printed."""
    done = subprocess.run(
        [sys.executable, '-c', LINT, '--no-cache', '--no-logo'],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    """Copy the package and its contracts."""
    shutil.copy(ROOT / 'pyproject.toml', tmp_path)
    shutil.copytree(
        ROOT / 'step_ros', tmp_path / 'step_ros', ignore=shutil.ignore_patterns('__pycache__')
    )
    return tmp_path


def test_the_contracts_hold():
    status, printed = lint_imports(ROOT)
    assert status == 0, printed
    assert re.search(r'[1-9]\d* kept, 0 broken', printed), printed


@pytest.mark.parametrize(
    ('module', 'climbs_to', 'broken'),
    [
        ('model/heads/step.py', 'step_ros.streaming.grid', 'Arrows point down only'),
        ('streaming/grid.py', 'step_ros.training', 'Arrows point down only'),
        ('streaming/recogniser.py', 'rclpy.node', 'Only step_ros.ros knows ROS'),
        ('model/bundle.py', 'sensor_msgs.msg', 'Only step_ros.ros knows ROS'),
        ('evaluation/metrics.py', 'step_ros.tabletop.scene', 'Arrows point down only'),
        ('replay/run.py', 'step_ros.experiments.run', 'Arrows point down only'),
        ('model/backbone.py', 'cv2', 'The model imports torch and timm alone'),
        ('ros/camera/player.py', 'torch', 'Cameras do without torch'),
        ('ros/perception/node.py', 'step_ros.training.fit', 'A robot does without training'),
    ],
)
def test_a_breach_is_noticed(module, climbs_to, broken, copy):
    path = copy / 'step_ros' / module
    path.write_text(path.read_text() + f'\nimport {climbs_to}\n')
    status, printed = lint_imports(copy)
    assert status == 1
    assert f'{broken} BROKEN' in ' '.join(printed.split())
    assert climbs_to.split('.')[0] in printed


def test_no_module_is_out_of_the_contracts_sight():
    # The contracts pass over a folder without __init__.py.
    modules = list((ROOT / 'step_ros').glob('**/*.py'))
    assert modules
    for module in modules:
        assert (module.parent / '__init__.py').is_file(), module


def test_a_room_that_no_floor_names_is_noticed(copy):
    (copy / 'step_ros' / 'utils').mkdir()
    (copy / 'step_ros' / 'utils' / '__init__.py').write_text('')
    status, printed = lint_imports(copy)
    assert status == 1
    assert 'step_ros.utils' in printed
