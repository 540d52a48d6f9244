# SPDX-License-Identifier: Apache-2.0
"""`step_ros ablate` as a user runs it, on a few videos."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from step_ros.cli import app
from step_ros.cli.ablate import with_recipes
from step_ros.io.video import VideoWriter
from step_ros.resources import share_directory

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    """Write six videos of two labels for training, and four for testing."""
    root = tmp_path_factory.mktemp('videos')
    rows = [['video', 'start', 'end', 'split', 'action']]
    for split, count in (('train', 3), ('test', 2)):
        for number in range(count):
            for action, light in (('up', range(40, 200, 20)), ('down', range(200, 40, -20))):
                name = f'{split}-{number}-{action}.mp4'
                with VideoWriter(root / name, size=(160, 120), rate=10.0) as writer:
                    for index, value in enumerate(light):
                        image = np.full((120, 160, 3), value + number, np.uint8)
                        writer.write(image, index * 100_000_000)
                rows.append([name, '', '', split, action])
    with (root / 'annotations.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    return root


def content(cache, **changes):
    return {
        'name': 'up and down',
        'title': 'Up and down',
        'recipe': {
            'name': 'ud',
            'data': {'dataset': 'csv', 'root': 'no-such-folder'},
            'backbone': {'bundle': 'tabletop-tiny'},
            'sampling': {'frames': 4, 'interval': 2, 'train_views': 1, 'test_clips': 1},
            'augmentation': {'smallest_crop': 1.0, 'flip': False},
            'heads': {'epochs': 1, 'batch': 6},
            'cache': {'folder': str(cache), 'workers': 0},
        },
        'tables': {
            'probes': {
                'title': 'Probes',
                'task': 'action',
                'columns': [{'title': 'top-1', 'metric': 'top1'}],
                'rows': {'linear': {'title': 'Linear', 'heads': {'name': 'linear'}}},
            }
        },
        **changes,
    }


@pytest.fixture(scope='module')
def run(videos, tmp_path_factory):
    """Write ablation files and run them on the videos; return exit code and output."""
    cache = tmp_path_factory.mktemp('cache')

    def run_ablate(folder, *changes, root=videos, options=()):
        files = []
        for number, each in enumerate(changes):
            files.append(folder / f'{number}.yaml')
            files[-1].write_text(yaml.safe_dump(content(cache, **each)))
        arguments = ['ablate', *files, '--output', folder / 'out', *options]
        arguments += [] if root is None else ['--root', root]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return run_ablate


def test_a_file_becomes_a_report_and_a_page(run, tmp_path):
    code, printed = run(tmp_path, {})
    assert code == 0, printed
    report = (tmp_path / 'out' / 'report.md').read_text()
    assert report.startswith('# Up and down\n')
    assert 'Written by `step_ros ablate 0.yaml --output FOLDER`' in report
    assert '| clips | 6 train, 0 val, 4 test;' in report
    assert str(tmp_path) not in report
    assert '<title>Up and down</title>' in (tmp_path / 'out' / 'report.html').read_text()
    timing = json.loads((tmp_path / 'out' / 'timing.json').read_text())
    assert timing.keys() == {'up-and-down'}
    assert 'report.md' in printed


def test_several_files_become_one_report_at_a_chosen_place(run, tmp_path):
    wanted = tmp_path / 'docs' / 'results.md'
    code, printed = run(tmp_path, {}, {'name': 'again'}, options=('--report', wanted))
    assert code == 0, printed
    assert wanted.read_text().startswith('# Ablations\n')
    assert not (tmp_path / 'out' / 'report.md').exists()
    assert '<title>Ablations</title>' in (tmp_path / 'out' / 'report.html').read_text()
    assert sorted(path.name for path in wanted.parent.iterdir()) == ['results.md']


@pytest.mark.parametrize(
    ('changes', 'why'),
    [
        (({'frames': 3},), 'frames=3 does not divide'),
        (({'tabels': {}},), '0.yaml: tabels'),
        (({}, {}), "1.yaml: another file has the name 'up and down', too"),
    ],
)
def test_an_error_in_a_file_is_reported_before_any_run(changes, why, run, tmp_path):
    code, printed = run(tmp_path, *changes)
    assert code == 1
    assert why in ' '.join(printed.split())
    assert not (tmp_path / 'out').exists()


def test_a_missing_dataset_is_named(run, tmp_path):
    code, printed = run(tmp_path, {}, root=None)
    assert code == 1
    assert 'no-such-folder: no such folder' in ' '.join(printed.split())
    assert not (tmp_path / 'out').exists()


def test_the_other_files_are_reported_if_one_fails(run, tmp_path):
    broken = content('', name='broken')['tables']
    broken['probes']['task'] = 'verb'
    code, printed = run(tmp_path, {}, {'name': 'broken', 'tables': broken})
    assert code == 1
    assert "'verb' is no task of the data" in ' '.join(printed.split())
    assert (tmp_path / 'out' / 'report.md').read_text().startswith('# Up and down\n')


def test_a_file_without_a_recipe_runs_on_datasets_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    papers = str(share_directory() / 'config' / 'ablations' / 'fusions.yaml')
    arguments = ['ablate', papers, '--output', 'out']
    absent = CliRunner().invoke(app, arguments, env={'COLUMNS': '200'})
    assert absent.exit_code == 1
    assert 'left out, none of its datasets is here; looked for datasets/drive-and-act' in (
        absent.output
    )
    (tmp_path / 'datasets' / 'drive-and-act').mkdir(parents=True)
    found = list(with_recipes([Path(papers)], None, Console()))
    assert [(file.name, recipe.name) for file, recipe in found] == [
        ('fusions.yaml', 'drive-and-act.yaml')
    ]
