# SPDX-License-Identifier: Apache-2.0
"""Files and folders are written completely or not at all."""

import pytest

from step_ros.files import Closing, replace_file, replace_folder


def test_file_appears_complete(tmp_path):
    path = tmp_path / 'new' / 'a.json'
    with replace_file(path) as partial:
        assert partial.suffix == path.suffix
        partial.write_text('1')
        assert not path.exists()
    assert path.read_text() == '1'
    assert [each.name for each in path.parent.iterdir()] == ['a.json']


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('old')

    def fail():
        with replace_file(path) as partial:
            partial.write_text('half')
            raise RuntimeError('disk full')

    with pytest.raises(RuntimeError, match='disk full'):
        fail()
    assert path.read_text() == 'old'
    assert [each.name for each in tmp_path.iterdir()] == ['a.json']


def test_folder_appears_complete_without_leftovers(tmp_path):
    path = tmp_path / 'bundle'
    (tmp_path / 'bundle.partial').mkdir()
    (tmp_path / 'bundle.partial' / 'stale').touch()
    with replace_folder(path) as partial:
        (partial / 'a').touch()
        assert not path.exists()
    assert [each.name for each in path.iterdir()] == ['a']


def test_failed_folder_leaves_nothing(tmp_path):
    def fail():
        with replace_folder(tmp_path / 'bundle') as partial:
            (partial / 'a').touch()
            raise RuntimeError('disk full')

    with pytest.raises(RuntimeError, match='disk full'):
        fail()
    assert not list(tmp_path.iterdir())


def test_full_folder_is_not_replaced(tmp_path):
    (tmp_path / 'bundle').mkdir()
    (tmp_path / 'bundle' / 'mine').touch()

    def fill():
        with replace_folder(tmp_path / 'bundle'):
            pass

    with pytest.raises(OSError, match='not empty'):
        fill()
    assert (tmp_path / 'bundle' / 'mine').exists()


def test_with_statement_closes():
    class Door(Closing):
        closed = False

        def close(self):
            self.closed = True

    def enter(door):
        with door:
            raise RuntimeError('trap')

    door = Door()
    with pytest.raises(RuntimeError, match='trap'):
        enter(door)
    assert door.closed
