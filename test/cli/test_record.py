# SPDX-License-Identifier: Apache-2.0
"""`step_ros record` as a user runs it: by time, by keys in a real terminal, from real videos."""

import csv
import os
import pty
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from step_ros.cli import app
from step_ros.datasets.recorder import ExampleRecorder, RecordError
from step_ros.datasets.registry import read_dataset
from step_ros.io.video import VideoReader, VideoWriter

pytestmark = pytest.mark.slow

SECOND = 1_000_000_000
PATIENCE_S = 120.0


@pytest.fixture
def run(monkeypatch):
    """Run `step_ros record ...`; return exit code and output."""
    monkeypatch.setenv('COLUMNS', '80')

    def run_record(*arguments):
        result = CliRunner().invoke(app, ['record', *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return run_record


@pytest.fixture
def video(tmp_path):
    """Write a video of four seconds whose brightness shows each frame's time."""
    path = tmp_path / 'camera.mp4'
    with VideoWriter(path, size=(64, 48), rate=20) as writer:
        for number in range(80):
            writer.write(np.full((48, 64, 3), 3 * number, np.uint8), number * SECOND // 20)
    return path


def rows_of(folder):
    with (folder / 'annotations.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def levels_of(path):
    with VideoReader(path) as reader:
        return [int(frame.to_rgb().mean()) for frame in reader]


def test_takes_follow_one_another_by_the_videos_stamps(run, video, tmp_path):
    folder = tmp_path / 'examples'
    code, printed = run(
        folder, '--camera', video, '--label', 'open', '--label', 'close',
        '--seconds', 0.5, '--countdown', 1,
    )  # fmt: skip
    assert code == 0, printed
    assert [(row['video'], row['taught'], row['split']) for row in rows_of(folder)] == [
        ('example-0001.mp4', 'open', 'train'),
        ('example-0002.mp4', 'close', 'train'),
    ]
    assert [float(row['end']) for row in rows_of(folder)] == [0.5, 0.5]
    first, second = (levels_of(folder / row['video']) for row in rows_of(folder))
    # Seconds 1 to 1.5; one more frame ends the first example; then 2.55 to 3.05.
    assert first == pytest.approx(range(60, 90, 3), abs=3)
    assert second == pytest.approx(range(153, 183, 3), abs=3)
    dataset = read_dataset('csv', folder)
    assert len(dataset.records) == 2
    assert not dataset.problems


def test_a_video_that_ends_early_gives_no_half_example(run, video, tmp_path):
    folder = tmp_path / 'examples'
    code, printed = run(
        folder, '--camera', video, '--label', 'open', '--takes', 4,
        '--seconds', 1.5, '--countdown', 0,
    )  # fmt: skip
    assert code == 0
    assert 'the camera ended before 1.5 s were recorded' in printed
    assert 'open: 2 examples' in printed
    assert len(rows_of(folder)) == 2
    assert len(list(folder.iterdir())) == 3


def test_a_second_run_adds_to_the_examples(run, tmp_path):
    folder = tmp_path / 'examples'
    given = (folder, '--camera', 'demo', '--label', 'tap table', '--seconds', 5)
    assert run(*given)[0] == 0
    before = (folder / 'annotations.csv').read_text()
    assert run(*given, '--split', 'test', '--seed', 3)[0] == 0
    after = (folder / 'annotations.csv').read_text()
    assert after.startswith(before)
    assert [(row['video'], row['split']) for row in rows_of(folder)] == [
        ('example-0001.mp4', 'train'),
        ('example-0002.mp4', 'test'),
    ]
    assert levels_of(folder / 'example-0001.mp4') != levels_of(folder / 'example-0002.mp4')


def test_bags_are_recorded_and_read_as_a_dataset(run, tmp_path):
    folder = tmp_path / 'bags'
    code, printed = run(
        folder, '--camera', 'demo', '--label', 'slide cup left', '--label', 'slide cup right',
        '--seconds', 5, '--format', 'bag',
    )  # fmt: skip
    assert code == 0, printed
    dataset = read_dataset('bag', folder, labels='annotations.csv')
    assert [record.labels['taught'] for record in dataset.records] == [
        'slide cup left',
        'slide cup right',
    ]
    assert not dataset.problems


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *arguments):
        self._file, inside = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'step_ros.cli', 'record', *map(str, arguments)],
            stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
        )  # fmt: skip
        os.close(inside)
        self.printed = ''

    def wait_for(self, text):
        """Read until a text has been printed since the last key."""
        seen, deadline = '', time.monotonic() + PATIENCE_S
        while text not in seen:
            assert time.monotonic() < deadline, self.printed
            try:
                seen += os.read(self._file, 1000).decode()
            except OSError:
                break
        self.printed += seen
        assert text in seen, self.printed

    def press(self, key, expected):
        """Press a key; wait until the expected text is printed."""
        os.write(self._file, key.encode())
        self.wait_for(expected)

    def end(self):
        os.write(self._file, b'q')
        try:
            while part := os.read(self._file, 1000):
                self.printed += part.decode()
        except OSError:
            pass  # the terminal closes when the command ends
        return self._process.wait(timeout=PATIENCE_S)


def test_keys_mark_start_and_end_and_choose_labels(tmp_path):
    folder = tmp_path / 'examples'
    terminal = Terminal(
        folder, '--camera', 'demo', '--label', 'tap table', '--label', 'wave', '--task', 'gesture'
    )
    terminal.wait_for('label: tap table')
    terminal.press(' ', 'tap table: recording')
    time.sleep(0.5)
    terminal.press(' ', 'example-0001.mp4')
    terminal.press('2', 'label: wave')
    terminal.press(' ', 'wave: recording')
    time.sleep(0.3)
    terminal.press('d', 'dropped')
    terminal.press(' ', 'wave: recording')
    time.sleep(0.5)
    # The example that is being recorded is kept.
    assert terminal.end() == 0, terminal.printed
    rows = rows_of(folder)
    assert [row['gesture'] for row in rows] == ['tap table', 'wave']
    for row in rows:
        with VideoReader(folder / row['video']) as reader:
            times = [frame.time_s for frame in reader]
        assert float(row['end']) >= 0.2
        assert times[-1] < float(row['end']) < times[-1] + 0.1
    assert not list(folder.glob('*.partial*'))


def test_a_video_plays_at_its_own_speed_and_ends(tmp_path):
    # Long enough for a key to be pressed in time on a busy machine.
    path, seconds = tmp_path / 'camera.mp4', 10
    with VideoWriter(path, size=(64, 48), rate=5) as writer:
        for number in range(5 * seconds):
            writer.write(np.full((48, 64, 3), 5 * number, np.uint8), number * SECOND // 5)
    folder = tmp_path / 'examples'
    began = time.monotonic()
    terminal = Terminal(folder, '--camera', path, '--label', 'open', '--label', 'close')
    terminal.wait_for('label: open')
    terminal.press(' ', 'open: recording')
    terminal.wait_for('close: 0 examples')
    assert 'the video has ended' in terminal.printed
    assert time.monotonic() - began > seconds - 1
    levels = levels_of(folder / rows_of(folder)[0]['video'])
    assert levels[-1] == pytest.approx(5 * (5 * seconds - 1), abs=3)
    assert np.all(np.diff(levels) > 0)


@pytest.mark.parametrize(
    ('arguments', 'why'),
    [
        (('--camera', 'nothing.mp4', '--label', 'a', '--seconds', 1), 'no such file'),
        (('--camera', 'demo', '--label', 'dance', '--seconds', 1), 'the demo cannot act it out'),
        (('--camera', 'demo', '--label', 'wave', '--label', 'wave', '--seconds', 1), 'each once'),
        (('--camera', 'demo', '--label', 'wave'), 'no terminal to press keys in; give --seconds'),
        (('--camera', 'demo', '--label', 'wave', '--seconds', 1, '--split', 'all'), 'split'),
        (('--camera', 'demo', '--label', 'wave', '--seconds', 1, '--task', 'end'), "task 'end'"),
        (('--camera', '987', '--label', 'a', '--seconds', 1), 'no camera can be opened; check'),
    ],
)
def test_wrong_arguments_are_refused(run, tmp_path, arguments, why):
    code, printed = run(tmp_path / 'examples', *arguments)
    assert code == 1
    assert why in ' '.join(printed.split())


def test_annotations_of_another_task_do_not_change(run, tmp_path):
    text = 'video,start,end,split,action\na.mp4,0,1,train,open'
    (tmp_path / 'annotations.csv').write_text(text)
    code, printed = run(tmp_path, '--camera', 'demo', '--label', 'wave', '--seconds', 5)
    assert code == 1
    assert 'its columns are video, start, end, split, action' in printed
    assert (tmp_path / 'annotations.csv').read_text() == text
    assert run(
        tmp_path, '--camera', 'demo', '--label', 'wave', '--seconds', 5, '--task', 'action'
    )[0] == 0  # fmt: skip
    assert (tmp_path / 'annotations.csv').read_text().startswith(text + '\n')
    assert [row['action'] for row in rows_of(tmp_path)] == ['open', 'wave']


def test_a_killed_recording_leaves_no_row_and_keeps_its_number(tmp_path):
    image = np.zeros((31, 45, 3), np.uint8)

    def recorder():
        return ExampleRecorder(tmp_path, task='lid', split='train', rate=10)

    killed = recorder()
    killed.begin('open')
    killed.write(image, 0)
    assert not (tmp_path / 'annotations.csv').exists()
    whole = recorder()
    whole.begin('open')
    for number in range(3):
        whole.write(image, number * SECOND // 10)
    assert whole.end() == 'example-0002.mp4'
    assert rows_of(tmp_path)[0]['end'] == '0.300'
    with VideoReader(tmp_path / 'example-0002.mp4') as reader:
        assert (reader.width, reader.height) == (44, 30)
    whole.begin('close')
    whole.write(image, 0)
    assert whole.end() == ''
    assert len(rows_of(tmp_path)) == 1
    with pytest.raises(RecordError, match='no example is being recorded'):
        whole.end()
    killed.drop()
