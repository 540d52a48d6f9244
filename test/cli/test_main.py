# SPDX-License-Identifier: Apache-2.0
"""The command `step_ros` itself: its version, and how little it imports."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from typer.testing import CliRunner

import step_ros
from step_ros.cli import app

ROOT = Path(__file__).parents[2]
# Modules that take long to import, or that are not installed everywhere.
SLOW = ('torch', 'timm', 'numpy', 'cv2', 'av', 'matplotlib', 'pydantic', 'rclpy', 'openvino')


def test_version_is_printed():
    result = CliRunner().invoke(app, ['--version'])
    assert result.exit_code == 0
    assert result.output == f'step_ros {step_ros.__version__}\n'


def test_version_is_that_of_the_ros_package():
    package = ET.parse(ROOT / 'package.xml').getroot()
    assert package.findtext('version') == step_ros.__version__


def test_version_is_that_of_the_pip_package():
    pytest.importorskip('setuptools')
    done = subprocess.run(
        [sys.executable, 'setup.py', '--version'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == step_ros.__version__


def test_help_lists_every_verb():
    result = CliRunner().invoke(app, ['--help'], env={'COLUMNS': '120'})
    assert result.exit_code == 0
    assert '--version' in result.output
    for verb in ('ablate', 'bench', 'bundle', 'complexity', 'data', 'demo', 'evaluate', 'record'):
        assert f' {verb} ' in result.output
    for verb in ('record-demo', 'replay', 'teach', 'teach-curve', 'train', 'watch'):
        assert f' {verb} ' in result.output


def test_help_imports_no_slow_module():
    code = (
        'import json, sys\n'
        'import step_ros.cli\n'
        f'print(json.dumps([name for name in {SLOW} if name in sys.modules]))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize('value', ['nan', 'inf', '-inf'])
@pytest.mark.parametrize(
    'verb',
    [
        ('demo', '--seconds'),
        ('replay', 'bag', '--on-threshold'),
        ('bench', 'transport', '--rate'),
    ],
)
def test_number_that_is_not_finite_is_refused_before_the_verb_runs(verb, value):
    result = CliRunner().invoke(app, [*verb, value], env={'COLUMNS': '120'})
    assert result.exit_code == 2
    assert f'Invalid value for {verb[-1]}' in result.output.replace("'", '')
