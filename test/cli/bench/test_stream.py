# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench stream` as a user runs it, on a small bundle."""

import json

import pytest
from typer.testing import CliRunner

from step_ros.cli import app

pytestmark = pytest.mark.slow


def bench(*arguments):
    return CliRunner().invoke(app, ['bench', 'stream', *map(str, arguments)])


def test_a_bundle_is_measured_and_written_as_json(tiny_bundle, tmp_path):
    file = tmp_path / 'out' / 'stream.json'
    done = bench('--bundle', tiny_bundle.path, '--turns', 2, '--json', file)
    assert done.exit_code == 0, done.output
    assert '| vit_tiny_patch16_224 | 3 |' in done.output
    content = json.loads(file.read_text())
    (row,) = content['rows']
    assert content['turns'] == len(row['details']['turns_ms']['stream']) == 2
    assert content['machine']['threads'] >= 1
    assert row['details']['heads_digest'] == tiny_bundle.spec.heads.digest
    assert row['details']['order_evidence'] is True


def test_backbones_with_random_weights_are_measured(tmp_path):
    file = tmp_path / 'stream.json'
    options = ['--frames', 2, '--image-size', 32, '--turns', 1, '--no-order-evidence']
    done = bench(
        *('--backbone', 'vit_tiny_patch16_224', '--tasks', 1, '--tasks', 2, '--json', file),
        *(*options, '--memory-budget', 0),
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(file.read_text())['rows']
    assert [row['tasks'] for row in rows] == [1, 2]
    assert {row['details']['kept'] for row in rows} == {'none'}
    assert {row['details']['order_evidence'] for row in rows} == {False}


@pytest.mark.parametrize(
    ('arguments', 'why'),
    [
        (['--bundle', 'no-such-bundle'], 'no-such-bundle'),
        (['--backbone', 'no-such-vit'], "backbone 'no-such-vit' is unknown"),
        (
            ['--backbone', 'vit_tiny_patch16_224', '--token-grid', '4x4'],
            'token grid 4 x 4 does not divide the grid of 14 x 14 tokens',
        ),
        (['--device', 'abacus', '--backbone', 'vit_tiny_patch16_224'], "device 'abacus'"),
    ],
)
def test_wrong_arguments_are_one_error_line(arguments, why):
    done = bench(*arguments)
    assert done.exit_code == 1
    assert why in done.output


def test_random_backbones_may_have_fewer_tokens(tmp_path):
    file = tmp_path / 'stream.json'
    options = ['--frames', 2, '--image-size', 64, '--turns', 1, '--tasks', 1, '--json', file]
    done = bench('--backbone', 'vit_tiny_patch16_224', '--token-grid', '2x1', *options)
    assert done.exit_code == 0, done.output
    (row,) = json.loads(file.read_text())['rows']
    assert (row['details']['token_grid'], row['details']['tokens_per_frame']) == ([2, 1], 2)


@pytest.mark.parametrize('text', ['8', '8x', '0x8', '-1x2', 'x', '8x8x8', '8 x 8'])
def test_a_malformed_token_grid_is_refused(text):
    done = bench('--backbone', 'vit_tiny_patch16_224', f'--token-grid={text}')
    assert done.exit_code == 2
    assert 'ROWSxCOLUMNS' in done.output


def test_rows_before_a_failure_are_kept(tiny_bundle, tmp_path):
    file = tmp_path / 'stream.json'
    done = bench(
        *('--bundle', tiny_bundle.path, '--bundle', 'no-such-bundle'),
        *('--turns', 1, '--json', file),
    )
    assert done.exit_code == 1
    assert len(json.loads(file.read_text())['rows']) == 1
    assert '| vit_tiny_patch16_224 | 3 |' in done.output
