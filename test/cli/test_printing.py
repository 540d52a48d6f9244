# SPDX-License-Identifier: Apache-2.0
"""Names with brackets, colons or odd bytes are printed as they are, by every verb."""

import ast
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner

from step_ros.cli import app, common
from step_ros.cli.common import open_console, print_error, print_text
from step_ros.reporting.progress import track

NAMES = ('grip [/x]', '[front]', '[/front]', '[red]a', 'take :smile: 1', '[link=a]b', 'a\\[b]')
VERBS = sorted(Path(common.__file__).parent.rglob('*.py'))


@pytest.mark.parametrize('name', NAMES)
def test_console_prints_names_as_they_are(name, capsys):
    console = open_console()
    table = Table(title=name)
    table.add_column(name, footer=name, no_wrap=True)
    table.add_row(name)
    console.print(table)
    console.print(name)
    print_text(console, name)
    print_error(console, ValueError(name))
    assert capsys.readouterr().out.count(name) == 6


def test_bytes_that_are_no_text_are_printed(capsys):
    print_text(open_console(), b'cl\xfcp.mp4'.decode('utf-8', 'surrogateescape'))
    assert 'cl?p.mp4' in capsys.readouterr().out


@pytest.mark.parametrize('name', NAMES)
def test_progress_bar_shows_names_as_they_are(name, capsys):
    assert list(track([1], name)) == [1]
    assert name in capsys.readouterr().out


@pytest.mark.parametrize('path', VERBS, ids=lambda path: path.stem)
def test_no_verb_prints_through_a_console_with_markup(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    for call in calls:
        if getattr(call.func, 'id', '') == 'Console':
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert (given.get('markup'), given.get('emoji')) == ('False', 'False')


def test_check_prints_tasks_views_and_labels_with_brackets(tmp_path, put_video, put_text):
    put_video(tmp_path / 'a.mp4')
    put_text(
        tmp_path / 'annotations.csv',
        'video,start,end,split,action,grip [/x],view',
        'a.mp4,0,0.2,train,open lid,[a],[front]',
        'a.mp4,0.2,0.4,train,close lid,[/b],[/front]',
        'gone [/c].mp4,,,train,close lid,[/b],[/front]',
    )
    result = CliRunner().invoke(app, ['data', 'check', 'csv', str(tmp_path)])
    assert result.exit_code == 1
    assert not result.exception or isinstance(result.exception, SystemExit)
    for name in ('grip [/x]: clips by split', '[front]', '[/front]', '[/b]', 'gone [/c].mp4'):
        assert name in result.output
