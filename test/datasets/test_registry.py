# SPDX-License-Identifier: Apache-2.0
"""Behaviour of all readers: options, missing files, speed, light imports."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from step_ros.datasets.registry import READERS, read_dataset
from step_ros.io.errors import DatasetError


@pytest.mark.parametrize('name', ['hri30', 'ikea-asm', 'drive-and-act', 'ntu120', 'ssv2', 'csv'])
def test_missing_annotations_and_folders_are_errors(name, tmp_path):
    with pytest.raises(DatasetError, match=r'expected'):
        read_dataset(name, tmp_path)
    with pytest.raises(DatasetError, match=r'gone: no such folder'):
        read_dataset(name, tmp_path / 'gone')


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('hri31', {}, ["'hri31'", 'hri30']),
        ('hri30', {'view': 'top'}, ["no option 'view'", 'validation_groups']),
        ('hri30', {'split': '4'}, ["split='4'", '1, 2, 3']),
        ('drive-and-act', {'view': 'roof'}, ["view='roof'", 'inner_mirror', 'all']),
        ('ntu120', {'protocol': 'cross-view'}, ['cross-subject, cross-setup']),
    ],
)
def test_wrong_option_is_named_with_its_choices(name, options, words, tmp_path):
    with pytest.raises(DatasetError) as error:
        read_dataset(name, tmp_path, **options)
    for word in words:
        assert word in str(error.value)


def test_options_have_a_help_text_and_unique_names():
    for reader in READERS.values():
        for option in reader.options:
            assert option.help
        names = [option.name for option in reader.options]
        assert len(set(names)) == len(names)


def test_many_rows_are_read_quickly(tmp_path, put_text):
    videos = tmp_path / '20bn-something-something-v2'
    videos.mkdir()
    entries = [{'id': f'{number}', 'template': 'Opening [something]'} for number in range(50_000)]
    for entry in entries[:2000]:
        Path(videos, f'{entry["id"]}.webm').touch()
    put_text(tmp_path / 'labels' / 'train.json', json.dumps(entries))
    put_text(tmp_path / 'labels' / 'validation.json', '[]')
    start = time.monotonic()
    dataset = read_dataset('ssv2', tmp_path)
    assert time.monotonic() - start < 10
    assert (len(dataset.records), len(dataset.problems)) == (2000, 48_000)


@pytest.mark.parametrize('package', ['torch', 'rosbags'])
def test_registry_does_not_import_heavy_packages(package):
    code = f'import sys, step_ros.datasets.registry; sys.exit({package!r} in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_registry_is_imported_without_rosbags():
    code = 'import sys; sys.modules["rosbags"] = None; import step_ros.datasets.registry'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
