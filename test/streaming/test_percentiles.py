"""Four figures of many times."""

import math

from step_ros.streaming.timing import percentiles


def test_they_are_in_order_and_of_the_values():
    assert percentiles(range(1, 101)) == {'p50': 50.5, 'p95': 95.05, 'p99': 99.01, 'max': 100}


def test_there_are_none_of_nothing():
    assert all(math.isnan(value) for value in percentiles([]).values())
