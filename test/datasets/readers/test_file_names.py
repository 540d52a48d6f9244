# SPDX-License-Identifier: Apache-2.0
"""Names of files, labels and encodings of text that a reader must take as they are."""

import unicodedata

import numpy as np
import pytest

from step_ros.datasets.check import check_dataset
from step_ros.datasets.frames import index_clip, read_frames
from step_ros.datasets.registry import read_dataset
from step_ros.io.errors import DatasetError
from step_ros.io.video import VideoError, VideoReader, VideoWriter

HEADER = 'video,start,end,split,action'
LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'


@pytest.mark.parametrize('root', ['.', './', ''])
def test_current_folder_is_a_root(root, tmp_path, put_video, put_text, monkeypatch):
    put_video(tmp_path / 'a.mp4')
    put_text(
        tmp_path / 'annotations.csv', HEADER, 'a.mp4,0,0.1,train,open', 'a.mp4,0.1,0.3,test,close'
    )
    monkeypatch.chdir(tmp_path)
    dataset = read_dataset('csv', root)
    assert dataset.problems == ()
    assert len(dataset.records) == 2
    assert check_dataset(dataset, decode=True).clean


@pytest.mark.parametrize(
    'name', ['take:1.mp4', '~a.mp4', 'http:x.mp4', 'a [x] [y].mp4', '50%.mp4', 'a?b#c.mp4']
)
def test_any_file_name_is_read(name, tmp_path, put_video, put_text, monkeypatch):
    put_video(tmp_path / 'plain.mp4')
    (tmp_path / 'plain.mp4').rename(tmp_path / name)
    put_text(
        tmp_path / 'annotations.csv', HEADER, f'{name},0,0.1,train,a', f'{name},0.1,0.3,test,b'
    )
    monkeypatch.chdir(tmp_path)
    for root in ('.', tmp_path):
        dataset = read_dataset('csv', root)
        assert check_dataset(dataset, decode=True).clean
        assert read_frames(index_clip(dataset.records[0]), [0]).shape[0] == 1
    with VideoReader(name) as reader:
        assert len(list(reader)) == 10


def test_any_file_name_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('take:1.mp4', '~b.mp4'):
        with VideoWriter(name, size=(32, 32), rate=10) as writer:
            writer.write(np.zeros((32, 32, 3), np.uint8), 0)
        assert (tmp_path / name).stat().st_size
        with VideoReader(name) as reader:
            assert reader.width == 32


@pytest.mark.parametrize(('written', 'stored'), [('NFC', 'NFD'), ('NFD', 'NFC')])
def test_unicode_forms_of_names_and_labels_agree(written, stored, tmp_path, put_video, put_text):
    name, label = 'Küche/Tür öffnen.mp4', 'öffnen'
    put_video(tmp_path / unicodedata.normalize(stored, name))
    cell, spoken = unicodedata.normalize(written, name), unicodedata.normalize(stored, label)
    put_text(
        tmp_path / 'annotations.csv',
        HEADER,
        f'{cell},0,0.1,train,{label}',
        f'{cell},0.1,0.2,test,{spoken}',
        f'{cell},0.2,0.3,train,close',
    )
    dataset = read_dataset('csv', tmp_path)
    assert dataset.problems == ()
    assert dataset.config.task('action').labels == ('close', label)
    assert check_dataset(dataset, decode=True).clean


def test_unicode_forms_of_bag_names_agree(tmp_path, put_bag, put_text):
    put_bag(tmp_path / unicodedata.normalize('NFD', 'Küche'), '/camera')
    put_text(
        tmp_path / 'labels.csv', HEADER, 'Küche,0,0.1,train,open', 'Küche,0.2,0.4,train,close'
    )
    dataset = read_dataset('bag', tmp_path, labels='labels.csv')
    assert dataset.problems == ()
    assert len(dataset.records) == 2


def test_bag_whose_path_has_special_characters_is_read(tmp_path, put_bag):
    labelled = [(0.05, 0.2, {'verb': 'open'}), (0.25, 0.5, {'verb': 'close'})]
    for storage in ('mcap', 'sqlite3'):
        put_bag(tmp_path / storage / 'train' / '~a', '/camera', storage=storage, labelled=labelled)
        root = tmp_path / f'{storage} 50%25 [a]: what?#1'
        (tmp_path / storage).rename(root)
        assert check_dataset(read_dataset('bag', root), decode=True).clean


# ---- text encodings


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-le', 'utf-16-be'])
def test_utf_16_is_named_with_the_mend(encoding, tmp_path):
    (tmp_path / 'annotations.csv').write_bytes(f'{HEADER}\na.mp4,,,train,x\n'.encode(encoding))
    with pytest.raises(DatasetError, match=r'UTF-16 text.*expected UTF-8.*iconv -f UTF-16'):
        read_dataset('csv', tmp_path)


def test_rows_in_windows_1252_are_named_with_the_mend(tmp_path, put_video):
    put_video(tmp_path / 'a.mp4')
    rows = f'{HEADER}\na.mp4,0,0.1,train,öffnen\na.mp4,0.1,0.2,train,close\n'
    (tmp_path / 'annotations.csv').write_bytes(rows.encode('cp1252'))
    with pytest.raises(DatasetError, match=r'two labels.*csv:2: row .*öffnen.*WINDOWS-1252'):
        read_dataset('csv', tmp_path)
    (tmp_path / 'annotations.csv').write_bytes(rows.replace('action', 'Öffnung').encode('cp1252'))
    with pytest.raises(DatasetError, match=r"column 'Öffnung': expected UTF-8"):
        read_dataset('csv', tmp_path)


def test_other_separator_of_cells_is_named(tmp_path, put_text):
    put_text(tmp_path / 'annotations.csv', HEADER.replace(',', ';'), 'a.mp4;;;train;x')
    with pytest.raises(DatasetError, match="expected commas between the cells, not ';'"):
        read_dataset('csv', tmp_path)


# ---- pointers of Git LFS


def test_git_lfs_pointer_is_named_with_the_mend(tmp_path, put_text):
    (tmp_path / 'a.mp4').write_text(LFS)
    put_text(
        tmp_path / 'annotations.csv', HEADER, 'a.mp4,0,0.1,train,open', 'a.mp4,0.1,0.3,test,close'
    )
    dataset = read_dataset('csv', tmp_path)
    [problem] = check_dataset(dataset, decode=True).problems
    assert 'Git LFS pointer' in str(problem)
    assert 'git lfs pull' in str(problem)
    for read in (VideoReader, lambda path: index_clip(dataset.records[0])):
        with pytest.raises(VideoError, match='git lfs pull'):
            read(tmp_path / 'a.mp4')
    (tmp_path / 'annotations.csv').write_text(LFS)
    with pytest.raises(DatasetError, match='git lfs pull'):
        read_dataset('csv', tmp_path)
