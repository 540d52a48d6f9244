# SPDX-License-Identifier: Apache-2.0
"""`step_ros data` as a user runs it."""

import json
from fractions import Fraction
from pathlib import Path

import av
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


def write_video(path, count, size=(32, 32), first=0):
    """Write numbered grey images at 20 frames per second, with a key frame every tenth."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=20, options={'g': '10', 'bf': '0'})
        stream.width, stream.height = size
        stream.pix_fmt = 'yuv420p'
        for index in range(count):
            image = np.full((size[1], size[0], 3), 4 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts, frame.time_base = first + index, Fraction(1, 20)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def test_decode_names_each_clip_that_training_would_refuse(run, tmp_path):
    whole = write_video(tmp_path / 'cut.mkv', 60)
    (tmp_path / 'cut.mkv').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'twice.ts').write_bytes(write_video(tmp_path / 'twice.ts', 30) * 2)
    small = write_video(tmp_path / 'small.ts', 30)
    large = write_video(tmp_path / 'sizes.ts', 30, (64, 64), first=60)
    (tmp_path / 'sizes.ts').write_bytes(small + large)
    write_video(tmp_path / 'damaged.mp4', 60)
    with av.open(str(tmp_path / 'damaged.mp4')) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][30]
    damaged = bytearray((tmp_path / 'damaged.mp4').read_bytes())
    damaged[place : place + 60] = b'\xff' * 60
    (tmp_path / 'damaged.mp4').write_bytes(damaged)
    rows = (
        'video,start,end,split,action',
        'cut.mkv,0,0.5,train,open',
        'cut.mkv,0.5,2.9,train,open',
        'cut.mkv,,,train,close',
        'twice.ts,0,1.5,train,open',
        'twice.ts,1,2.5,test,open',
        'twice.ts,,,train,close',
        'small.ts,,,train,open',
        'sizes.ts,0,1.5,train,close',
        'sizes.ts,1,4,train,open',
        'damaged.mp4,0,0.5,train,open',
        'damaged.mp4,1,2,train,close',
        'damaged.mp4,2.5,3,test,close',
    )
    (tmp_path / 'annotations.csv').write_text('\n'.join(rows) + '\n')
    code, _ = run('check', 'csv', tmp_path, '--decode', '--json', tmp_path / 'found.json')
    assert code == 1
    problems = json.loads((tmp_path / 'found.json').read_text())['problems']
    named = {
        (Path(problem['file']).name, problem['kind'], problem['value'].split('/')[-1])
        for problem in problems
    }
    assert len(problems) == 6
    assert named == {
        ('cut.mkv', 'bad span', '2.9 seconds'),
        ('cut.mkv', 'bad span', 'none'),
        ('twice.ts', 'bad span', '2.5 seconds'),
        ('twice.ts', 'bad span', 'none'),
        ('sizes.ts', 'undecodable video', 'sizes.ts'),
        ('damaged.mp4', 'undecodable video', 'damaged.mp4'),
    }
    why = ' '.join(problem['expected'] for problem in problems)
    for words in (
        'the file is cut short: its header says 3.',
        'time stamps begin anew after 1.450 s',
        'in clip sizes.ts:1.0-4.0; frame 30 is 64 x 64, frame 20 32 x 32',
        'in clip damaged.mp4:1.0-2.0; ',
    ):
        assert words in why


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
