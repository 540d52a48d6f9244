# SPDX-License-Identifier: Apache-2.0
"""`step_ros data` as a user runs it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from step_ros.cli import app
from step_ros.io.video import VideoWriter


@pytest.fixture
def run(monkeypatch):
    """Run `step_ros data ...`; return exit code and output."""
    monkeypatch.setenv('COLUMNS', '80')

    def run_data(*arguments):
        result = CliRunner().invoke(app, ['data', *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return run_data


@pytest.fixture
def own(tmp_path):
    """Write two videos of half a second, and a CSV file with four clips in two views."""
    for name in ('a.mp4', 'b.mp4'):
        with VideoWriter(tmp_path / name, size=(32, 32), rate=20) as writer:
            for index in range(10):
                image = np.full((32, 32, 3), 20 * index, np.uint8)
                writer.write(image, index * 50_000_000)
    rows = (
        'video,start,end,split,action,view',
        'a.mp4,0,0.2,train,open [lid],front',
        'a.mp4,0.2,0.4,train,close,front',
        'b.mp4,0,0.2,test,open [lid],top',
        'b.mp4,0.2,0.5,val,close,top',
    )
    (tmp_path / 'annotations.csv').write_text('\n'.join(rows) + '\n')
    return tmp_path


def add_rows(folder, *rows):
    with (folder / 'annotations.csv').open('a') as file:
        file.write('\n'.join(rows) + '\n')


def row_of(printed, label):
    """Return the cells after a label in the table of splits."""
    lines = [line for line in printed.splitlines() if line.startswith(f' {label}')]
    return lines[0].split(label)[1].split()


def test_list_names_datasets_tasks_and_options(run):
    code, printed = run('list')
    assert code == 0
    for words in (
        'drive-and-act',
        'task action: 34 classes, 20 nearly symmetric, 14 others',
        'task action: 33 classes, 14 nearly symmetric, 19 others',
        'task verb: 14 classes',
        'task action: 30 classes, 20 nearly symmetric, 10 others',
        'task action: 120 classes, 18 nearly symmetric, 102 others',
        '--option split=1: published split; the papers use 1 [1, 2, 3]',
        '--option validation_environment=3',
        '--option file=annotations.csv',
    ):
        assert words in printed


def test_check_of_a_clean_copy_exits_with_0(run, own):
    before = {path: path.stat().st_mtime_ns for path in sorted(own.rglob('*'))}
    code, printed = run('check', 'csv', own, '--decode')
    assert code == 0, printed
    assert row_of(printed, 'open [lid]') == ['1', '-', '1']
    assert row_of(printed, 'close') == ['1', '1', '-']
    assert row_of(printed, 'all') == ['2', '1', '1']
    assert 'clips by view' in printed
    assert '4 clips' in printed
    assert '2 videos opened, 0 cannot be decoded' in printed
    assert printed.rstrip().endswith('clean')
    assert {path: path.stat().st_mtime_ns for path in sorted(own.rglob('*'))} == before


def test_check_names_missing_and_wrong_clips_with_exit_1(run, own, tmp_path):
    add_rows(own, 'gone.mp4,,,train,close,top', *['a.mp4,3,2,train,close,top'] * 5)
    report = tmp_path / 'reports' / 'check.json'
    code, printed = run('check', 'csv', own, '--json', report)
    assert code == 1
    assert f'{own}/gone.mp4' in printed
    assert 'missing video: 1' in printed
    assert 'bad span: 5' in printed
    assert "start, end '3, 2': expected 0 <= start < end" in printed
    assert 'and 2 more (--json FILE lists all)' in printed
    assert 'not clean' in printed
    found = json.loads(report.read_text())
    assert found['clean'] is False
    assert found['clips'] == 4
    assert found['missing_videos'] == [str(own / 'gone.mp4')]
    assert found['problems_by_kind'] == {'bad span': 5, 'missing video': 1}
    assert found['problems'][1]['row'] == 7
    assert {
        'task': 'action',
        'label': 'close',
        'split': 'val',
        'view': 'top',
        'clips': 1,
    } in found['counts']


def test_decode_lists_undecodable_videos(run, own):
    whole = (own / 'a.mp4').read_bytes()
    (own / 'a.mp4').write_bytes(whole[: len(whole) // 2])
    (own / 'c.mp4').write_text('no video')
    add_rows(own, 'c.mp4,,,train,close,top', 'b.mp4,0,9,train,close,top')
    code, printed = run('check', 'csv', own)
    assert code == 0, printed
    code, printed = run('check', 'csv', own, '--decode')
    assert code == 1
    assert '3 videos opened, 2 cannot be decoded' in printed
    assert 'undecodable video: 2' in printed
    assert f'{own}/c.mp4' in printed
    # A clip that is longer than its video.
    assert "end '9 seconds': expected at most 0.500 s (10 frames)" in printed


def test_classes_without_clips_are_named(run, tmp_path):
    name = 'S001C001P001R001A001_rgb.avi'
    (tmp_path / name).touch()
    code, printed = run('check', 'ntu120', tmp_path, '--option', 'protocol=cross-setup')
    assert code == 1
    assert 'protocol=cross-setup' in printed
    assert '1 clips of 114480 published' in printed
    assert 'action: 119 classes without clips: eat meal/snack' in printed


@pytest.mark.parametrize(
    ('arguments', 'code', 'words'),
    [
        (['hri31', '.'], 1, "dataset 'hri31': expected one of csv"),
        (['csv', 'gone'], 1, 'gone: no such folder'),
        (['csv', '.', '--option', 'file=gone.csv'], 1, 'gone.csv: there is no such file'),
        (['csv', '.', '--option', 'root=x'], 1, "no option 'root'"),
        (['csv', '.', '--option', 'file'], 2, 'expected KEY=VALUE'),
        (['csv', '.', '--option', 'file=a', '--option', 'file=b'], 2, 'each key once'),
    ],
)
def test_wrong_arguments_are_refused(run, arguments, code, words):
    exit_code, printed = run('check', *arguments)
    assert exit_code == code
    assert words in ' '.join(printed.replace('│', ' ').split())
    assert 'Traceback' not in printed
