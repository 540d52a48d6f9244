# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench tasks` as a user runs it, on a tiny backbone."""

import json

import pytest
from typer.testing import CliRunner

from step_ros.cli import app

pytestmark = pytest.mark.slow


def bench(*arguments):
    return CliRunner().invoke(app, ['bench', 'tasks', *map(str, arguments)])


def test_times_are_printed_drawn_and_written(tmp_path):
    file, plot = tmp_path / 'out' / 'tasks.json', tmp_path / 'out' / 'tasks.png'
    done = bench(
        *('--backbone', 'vit_tiny_patch16_224', '--frames', 2, '--image-size', 32),
        *('--tasks', 1, '--tasks', 2, '--turns', 1, '--json', file, '--plot', plot),
    )
    assert done.exit_code == 0, done.output
    assert '| tasks | st_adapter_ms | step_ms | stream_ms | ratio |' in done.output
    content = json.loads(file.read_text())
    assert [row['tasks'] for row in content['rows']] == [1, 2]
    assert content['configuration']['image'] == [32, 32]
    assert content['machine']['cores'] >= 1
    assert plot.read_bytes().startswith(b'\x89PNG')


def test_an_unknown_backbone_is_one_error_line():
    done = bench('--backbone', 'no-such-vit')
    assert done.exit_code == 1
    assert "backbone 'no-such-vit' is unknown" in done.output
