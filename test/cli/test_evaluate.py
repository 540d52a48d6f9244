# SPDX-License-Identifier: Apache-2.0
"""`step_ros evaluate`: the shipped bundle on the tabletop as a dataset."""

import csv
import json

import pytest
from typer.testing import CliRunner

from step_ros.cli import app
from step_ros.tabletop.dataset import Rendering, render_dataset

pytestmark = pytest.mark.slow


def evaluate(*arguments):
    return CliRunner().invoke(
        app, ['evaluate', *map(str, arguments)], env={'COLUMNS': '160'}, catch_exceptions=False
    )


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tabletop')
    render_dataset(folder, Rendering(clips={'test': 2}, views=('front', 'top')))
    return folder


def test_a_bundle_is_scored_by_order_view_and_label(root, tmp_path):
    path = tmp_path / 'scores.json'
    result = evaluate(
        'tabletop-tiny', 'tabletop', root, '--cache', tmp_path / 'cache', '--json', path
    )
    assert result.exit_code == 0, result.output
    found = json.loads(path.read_text())
    assert found['clips'] == 32
    assert found['orders']['correct'].keys() == {'action', 'verb', 'object'}
    assert found['orders']['correct']['action']['top1'] >= 0.85
    assert found['orders']['reversed']['action']['to_counterpart'] >= 0.85
    assert {view: tasks['object']['clips'] for view, tasks in found['views'].items()} == {
        'front': 16,
        'top': 16,
    }
    for text in ('frames reversed', 'view top', 'most often taken for', 'lay down screwdriver'):
        assert text in result.output


def test_a_dataset_that_does_not_fit_is_refused(root, tmp_path):
    empty = evaluate('tabletop-tiny', 'tabletop', root, '--split', 'val')
    assert empty.exit_code == 1
    assert "split 'val' has no clips" in empty.output
    rows = [['video', 'start', 'end', 'split', 'mood']]
    rows += [[f'test/{path.name}', '', '', 'test', 'calm'] for path in root.glob('test/0000*')]
    rows[-1][-1] = 'wild'
    with (root / 'moods.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    other = evaluate('tabletop-tiny', 'csv', root, '--option', 'file=moods.csv')
    assert other.exit_code == 1
    assert 'none in common' in other.output


def test_labels_unknown_to_the_bundle_are_named(root, tmp_path):
    rows = [['video', 'start', 'end', 'split', 'action']]
    rows += [[f'test/{path.name}', '', '', 'test', 'wave'] for path in root.glob('test/00000*')]
    rows[-1][-1] = 'juggle'
    with (root / 'juggling.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    result = evaluate(
        *('tabletop-tiny', 'csv', root, '--option', 'file=juggling.csv'),
        *('--cache', tmp_path / 'cache'),
    )
    assert result.exit_code == 1
    assert "'juggle' is no label of task 'action'" in result.output
