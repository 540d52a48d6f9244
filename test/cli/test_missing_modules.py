# SPDX-License-Identifier: Apache-2.0
"""Where modules of an extra or of ROS 2 are missing, each verb says in one line what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What requirements/core.txt does not bring, and a verb that needs it.
HIDDEN = ('torchmetrics', 'tensorboard', 'sklearn', 'rosbags', 'markdown_it', 'openvino', 'rclpy')
VERBS = {
    'train': ['train', str(ROOT / 'config/training/tabletop-tiny.yaml'), '--output', 'out'],
    'record-demo': ['record-demo', 'bag'],
    'replay': ['replay', 'bag'],
    'export': ['bundle', 'export', 'tabletop-tiny', '--output', 'exported'],
    'demo': ['demo', '--seconds', '1'],
    'watch': ['watch', '--timeout', '1'],
    'transport': ['bench', 'transport'],
}
CODE = f"""
import json, sys
for name in {HIDDEN}:
    sys.modules[name] = None
from typer.testing import CliRunner
from step_ros.cli import app
found = {{}}
for verb, arguments in {VERBS}.items():
    done = CliRunner().invoke(app, arguments)
    found[verb] = [done.exit_code, type(done.exception).__name__, done.output]
print(json.dumps(found))
"""


def run(code, folder, **environ):
    return subprocess.run(
        [sys.executable, '-c', code],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    done = run(CODE, tmp_path_factory.mktemp('verbs'))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize('verb', VERBS)
def test_a_verb_without_its_modules_ends_in_one_line(results, verb):
    code, exception, output = results[verb]
    assert (code, exception) == (1, 'SystemExit'), output
    line = output.strip().splitlines()[-1]
    assert any(name in line for name in HIDDEN)
    assert any(word in line for word in ('pip install', 'make setup', 'colcon'))


MAIN = 'from step_ros.cli import main; main()'


@pytest.mark.slow
def test_a_wrong_domain_ends_a_verb_in_one_line(tmp_path):
    pytest.importorskip('rclpy')
    code = f"import sys; sys.argv = ['step_ros', 'watch', '--timeout', '1']\n{MAIN}"
    done = run(code, tmp_path, ROS_DOMAIN_ID='abc')
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "step_ros watch: ROS_DOMAIN_ID='abc'" in done.stderr


@pytest.mark.slow
def test_no_home_ends_a_verb_in_one_line(tmp_path):
    pytest.importorskip('rclpy')
    code = f"import sys; sys.argv = ['step_ros', 'watch', '--timeout', '1']\n{MAIN}"
    done = run(code, tmp_path, HOME='', ROS_LOG_DIR='', ROS_HOME='')
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert 'HOME is not set' in done.stderr


@pytest.mark.slow
def test_the_doctor_exits_with_1_and_writes_json(tmp_path):
    code = f"import sys; sys.argv = ['step_ros', 'doctor', '--json', 'found.json']\n{MAIN}"
    done = run(code, tmp_path, ROS_DOMAIN_ID='abc')
    assert done.returncode == 1
    assert done.stderr == ''
    written = json.loads((tmp_path / 'found.json').read_text())['findings']
    assert any(each['level'] == 'error' and 'abc' in each['text'] for each in written)
