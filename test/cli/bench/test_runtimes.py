# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench runtimes` as a user runs it, on a small bundle."""

import json

import pytest
from typer.testing import CliRunner

from step_ros.cli import app

pytestmark = pytest.mark.slow


def bench(*arguments):
    return CliRunner().invoke(app, ['bench', 'runtimes', *map(str, arguments)])


def test_a_bundle_is_measured_and_written_as_json(tiny_bundle, tmp_path):
    file = tmp_path / 'out' / 'runtimes.json'
    done = bench('--bundle', tiny_bundle.path, '--json', file)
    assert done.exit_code == 0, done.output
    assert '| vit_tiny_patch16_224 | torch | cpu | float32 |' in done.output
    content = json.loads(file.read_text())
    assert content['machine']['threads'] >= 1
    assert content['rows'][0]['digest'] == tiny_bundle.spec.backbone.digest
    assert content['rows'][0]['ms'] > 0


def test_an_unknown_backbone_is_one_error_line():
    done = bench('--backbone', 'no-such-vit')
    assert done.exit_code == 1
    assert "backbone 'no-such-vit' is unknown" in done.output
