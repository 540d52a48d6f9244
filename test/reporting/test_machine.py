"""Tables and files of benchmarks."""

import json

import pytest

from step_ros.benchmarks.recogniser_rate import bundle_digests
from step_ros.reporting.machine import table, write_json


def test_a_table_has_its_columns_and_rows():
    lines = table(('what', 'ms'), [['a', '1'], ['b', '22']]).splitlines()
    assert lines == ['| what | ms |', '| --- | ---: |', '| a | 1 |', '| b | 22 |']


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='1 cells'):
        table(('what', 'ms'), [['a']])


def test_a_file_is_written_with_its_folder(tmp_path):
    path = tmp_path / 'new' / 'figures.json'
    write_json(path, {'ms': 1.5, 'rows': [{'p50': float('nan'), 'sizes': (1, 2)}]})
    assert json.loads(path.read_text()) == {'ms': 1.5, 'rows': [{'p50': None, 'sizes': [1, 2]}]}


def test_a_bundle_is_named_by_what_decides_its_answers(tiny_bundle):
    digests = bundle_digests(tiny_bundle)
    assert digests['model_id'] == tiny_bundle.model_id
    assert digests['heads_digest'].startswith('sha256:')
