# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests of bags: the same recording in every kind of bag."""

import pytest
from fixtures.bag_files import KINDS, LABELLED, PNG, RAW, make_bag


@pytest.fixture(scope='session')
def plain(tmp_path_factory, put_bag):
    """Return a folder with one bag in both storages, with two cameras and an event."""
    root = tmp_path_factory.mktemp('bags')
    for storage in ('mcap', 'sqlite3'):
        put_bag(root / storage, RAW, PNG, storage=storage, labelled=LABELLED)
    return root


@pytest.fixture(scope='session', params=KINDS)
def bag(request, tmp_path_factory, plain):
    """Return the recording as a bag of each kind."""
    return make_bag(request.param, tmp_path_factory.mktemp('kind'), plain)
