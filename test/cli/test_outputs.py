# SPDX-License-Identifier: Apache-2.0
"""Outputs that cannot be written end every verb in one line, before its work."""

import json
import os

import pytest
from typer.testing import CliRunner

from step_ros.cli import app

FILE, FOLDER = 'a folder; expected the name of a file', 'a file; expected the name of a folder'
# Arguments of each verb with OUT for the output, and whether it is a file or a folder.
# The other arguments name nothing that exists: the output is checked before all work.
VERBS = {
    'replay': ('replay nowhere --out OUT', FOLDER),
    'record': ('record OUT --label wave --seconds 1 --camera nowhere.mp4', FOLDER),
    'record-demo': ('record-demo OUT', FOLDER),
    'evaluate': ('evaluate nowhere csv nowhere --json OUT', FILE),
    'train': ('train nowhere.yaml --output OUT', FOLDER),
    'data check': ('data check csv nowhere --json OUT', FILE),
    'data render': ('data render OUT', FOLDER),
    'teach': ('teach nowhere nowhere --output OUT', FOLDER),
    'teach --json': ('teach nowhere nowhere --output new --json OUT', FILE),
    'teach-curve': ('teach-curve --bundle nowhere --json OUT', FILE),
    'teach-curve --output': ('teach-curve --bundle nowhere --output OUT', FILE),
    'ablate': ('ablate nowhere.yaml --output OUT', FOLDER),
    'ablate --report': ('ablate nowhere.yaml --output new --report OUT', FILE),
    'demo': ('demo --video nowhere.mp4 --output OUT', FOLDER),
    'demo --json': ('demo --video nowhere.mp4 --json OUT', FILE),
    'complexity': ('complexity --json OUT', FILE),
    'bundle export': ('bundle export nowhere --output OUT', FOLDER),
    'bench stream': ('bench stream --bundle nowhere --json OUT', FILE),
    'bench node': ('bench node --json OUT', FILE),
    'bench tasks': ('bench tasks --json OUT', FILE),
    'bench tasks --plot': ('bench tasks --plot OUT', FILE),
    'bench runtimes': ('bench runtimes --json OUT', FILE),
    'bench transport': ('bench transport --json OUT', FILE),
    'bench soak': ('bench soak --json OUT', FILE),
}


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Run a verb with an output, and return the one line that it prints."""
    monkeypatch.chdir(tmp_path)

    def run(arguments, output):
        words = [str(output) if word == 'OUT' else word for word in arguments.split()]
        result = CliRunner().invoke(app, words, env={'COLUMNS': '200'}, catch_exceptions=False)
        assert result.exit_code == 1, result.output
        (line,) = result.output.splitlines()
        return line

    return run


@pytest.mark.parametrize('verb', VERBS)
def test_output_of_the_wrong_kind_is_refused_first(refused, tmp_path, verb):
    arguments, why = VERBS[verb]
    taken = tmp_path / '[taken] output'
    if why == FILE:
        taken.mkdir()
    else:
        taken.write_text('mine')
    assert refused(arguments, taken).startswith(f'{taken}: {why}')


@pytest.mark.parametrize('verb', VERBS)
def test_output_below_a_file_is_refused_first(refused, tmp_path, verb):
    (tmp_path / 'notes').write_text('mine')
    line = refused(VERBS[verb][0], tmp_path / 'notes' / 'out')
    assert f'{tmp_path / "notes"} is a file, not a folder; choose another path' in line
    assert (tmp_path / 'notes').read_text() == 'mine'


@pytest.mark.parametrize('verb', ['replay', 'data check', 'train'])
def test_other_unusable_outputs_are_refused_first(refused, tmp_path, verb):
    arguments = VERBS[verb][0]
    assert 'too long' in refused(arguments, tmp_path / ('x' * 300))
    link = tmp_path / 'link'
    link.symlink_to('nothing')
    assert 'a link to nothing, which does not exist' in refused(arguments, link)
    if os.path.isdir('/proc'):
        assert 'cannot be written in /proc' in refused(arguments, '/proc/step_ros/out')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_folder_without_permission_is_refused_first(refused, tmp_path):
    (tmp_path / 'locked').mkdir(mode=0o500)
    line = refused(VERBS['replay'][0], tmp_path / 'locked' / 'out')
    assert 'cannot be written in' in line
    assert 'permission denied' in line


@pytest.mark.parametrize(
    ('arguments', 'inside'),
    [
        ('replay nowhere --out OUT', 'report.html'),
        ('record OUT --label wave --seconds 1 --camera nowhere.mp4', 'annotations.csv'),
        ('ablate nowhere.yaml --output OUT', 'report.md'),
    ],
)
def test_file_inside_the_folder_that_cannot_be_written_is_refused(
    refused, tmp_path, arguments, inside
):
    (tmp_path / 'out' / inside).mkdir(parents=True)
    assert f'{inside}: {FILE}' in refused(arguments, tmp_path / 'out')


def test_check_leaves_no_trace_and_keeps_files(tmp_path):
    root = tmp_path / 'data'
    root.mkdir()
    before = tmp_path / 'found.json'
    before.write_text('{}')
    words = ['data', 'check', 'csv', str(root), '--json', str(before)]
    assert CliRunner().invoke(app, words).exit_code == 1
    assert json.loads(before.read_text()) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ['data', 'found.json']


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_disk_that_is_full_at_the_end_gives_one_line():
    words = ['complexity', '--json', '/dev/full']
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 1
    assert 'No space left on device' in result.output.splitlines()[-1]
