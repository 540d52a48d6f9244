# SPDX-License-Identifier: Apache-2.0
"""Fixtures for datasets of bags."""

import pytest

FRONT = '/front/image_raw'
LABELLED = [
    (0.05, 0.2, {'verb': 'open', 'object': 'box'}),
    (0.25, 0.5, {'verb': 'close', 'object': 'jar'}),
]


@pytest.fixture
def bags(tmp_path, put_bag):
    """Return a folder of three bags, one for each split, in both storages, with two clips each."""
    for split, storage in (('train', 'mcap'), ('val', 'sqlite3'), ('test', 'mcap')):
        put_bag(tmp_path / split / 'kitchen', FRONT, storage=storage, labelled=LABELLED)
    return tmp_path


@pytest.fixture(scope='session')
def problems_of():
    """Return kind, field and value of a dataset's problems: `problems_of(dataset)`."""
    return lambda dataset: [
        (problem.kind, problem.field, problem.value) for problem in dataset.problems
    ]
