# SPDX-License-Identifier: Apache-2.0
"""Results of a benchmark as JSON, and the digests of its bundle."""

import json

from step_ros.benchmarks.recogniser_rate import bundle_digests
from step_ros.reporting.machine import write_json


def test_json_is_written_with_its_folder_and_null_for_nan(tmp_path):
    path = tmp_path / 'new' / 'figures.json'
    write_json(path, {'ms': 1.5, 'rows': [{'p50': float('nan'), 'sizes': (1, 2)}]})
    assert json.loads(path.read_text()) == {'ms': 1.5, 'rows': [{'p50': None, 'sizes': [1, 2]}]}


def test_bundle_digests_name_backbone_and_heads(tiny_bundle):
    digests = bundle_digests(tiny_bundle)
    assert digests['model_id'] == tiny_bundle.model_id
    assert digests['heads_digest'].startswith('sha256:')
