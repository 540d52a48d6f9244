# SPDX-License-Identifier: Apache-2.0
"""Percentiles."""

import math

from step_ros.reporting.percentiles import percentiles, percentiles_and_max


def test_percentiles_and_maximum_of_values():
    expected = {'p50': 50.5, 'p95': 95.05, 'p99': 99.01, 'max': 100}
    assert percentiles_and_max(range(1, 101)) == expected
    assert percentiles([3.0, 1.0, 2.0], (50,)) == {'p50': 2.0}


def test_no_values_give_nan():
    assert all(math.isnan(value) for value in percentiles_and_max([]).values())
