# SPDX-License-Identifier: Apache-2.0
"""The search finds the highest rate that a node keeps, on a machine whose speed drifts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.benchmarks.recogniser_rate import RecogniserRate
from step_ros.model.bundle import load_bundle
from step_ros.ros.benchmarks.node import search_table
from step_ros.ros.benchmarks.node_run import NodeTimes
from step_ros.ros.benchmarks.process_usage import STAGES
from step_ros.ros.benchmarks.rate_search import (
    Probe,
    RateSearch,
    faster_bundle,
    highest_kept,
    search_share,
    verdict,
)


def node_times(rate, *, lost):
    percentiles = dict.fromkeys(('p50', 'p95', 'p99', 'max'), 1.0)
    return NodeTimes(
        cameras=1,
        rate=rate,
        seconds=1.0,
        hypotheses=1,
        hypotheses_per_s=1.0,
        latency_ms=percentiles,
        added_ms=percentiles,
        lost_percent=lost,
        behind_percent=0.0,
        dropped_percent=0.0,
        transport_lost_percent=0.0,
        received_per_s=rate,
        cpu_percent=dict.fromkeys((*STAGES, 'publisher', 'listener', 'others'), 0.0),
        resident_mb=100.0,
        late_ms=percentiles,
        skipped=0,
    )


def speeds(*frames_per_s):
    """Measure a recogniser that has these speeds, one after the other; the last stays."""
    given_speeds = itertools.chain(frames_per_s, itertools.repeat(frames_per_s[-1]))
    return lambda: RecogniserRate(frame_ms=20.0, frames_per_s=next(given_speeds))


def node_of(limit):
    """Run a node that keeps up with this rate and no higher one."""
    return lambda rate: node_times(rate, lost=0.0 if rate <= limit else 50.0)


@given(limit=st.floats(1, 1000), start=st.floats(10, 100), steps=st.integers(0, 10))
def test_the_limit_is_found_to_within_the_last_step(limit, start, steps):
    tried = []

    def kept(rate):
        tried.append(rate)
        return rate <= limit

    found = highest_kept(start, steps=steps, kept=kept)
    assert found <= limit
    # The range between the last kept and the first failed rate is halved at each step.
    width = max(start, limit) / 2**steps
    assert limit - found <= width * (1 + 1e-9)
    assert found in (0.0, *tried)
    assert found == max((rate for rate in tried if rate <= limit), default=0.0)


def test_no_kept_rate_gives_0():
    assert highest_kept(10, steps=3, kept=lambda rate: False) == 0


def probe(*, kept, steady):
    own, after = (RecogniserRate(frame_ms=20.0, frames_per_s=speed) for speed in (100, 105))
    if not steady:
        after = RecogniserRate(frame_ms=20.0, frames_per_s=120)
    times = node_times(50, lost=0.0 if kept else 6.0)
    return Probe(share=0.5, own=own, own_after=after, times=times)


GOOD, BAD = probe(kept=True, steady=True), probe(kept=False, steady=True)
LUCKY, SPOILT = probe(kept=True, steady=False), probe(kept=False, steady=False)


@pytest.mark.parametrize(
    ('tries', 'outcome'),
    [
        ([GOOD], None),
        ([GOOD, GOOD], True),
        ([BAD, BAD], False),
        ([GOOD, BAD], None),
        ([GOOD, BAD, BAD], False),
        ([LUCKY, LUCKY, LUCKY], None),
        ([SPOILT, GOOD, SPOILT, GOOD], True),
        # No more tries are allowed, so the majority wins:
        ([SPOILT, SPOILT, SPOILT, SPOILT, GOOD], True),
        ([SPOILT, SPOILT, SPOILT, GOOD, BAD], False),
        ([LUCKY, SPOILT, LUCKY, SPOILT, LUCKY], True),
    ],
)
def test_two_steady_tries_settle_a_rate(tries, outcome):
    assert verdict(tries, most=5) is outcome


def test_the_share_refers_to_the_recogniser_just_before_a_try():
    # The node keeps 95 % of the speed of a machine that becomes slower and slower.
    now = {'speed': 200.0}

    def own():
        now['speed'] *= 0.98
        return RecogniserRate(frame_ms=20.0, frames_per_s=now['speed'])

    search = search_share(
        own=own, node_at=lambda rate: node_of(0.95 * now['speed'])(rate), steps=4, tries=5
    )
    assert search.share == 0.9375
    assert search.requirement.passed
    assert all(probe.steady for probe in search.probes)


def test_a_try_during_a_change_of_speed_is_repeated():
    search = search_share(own=speeds(100, 100, 150), node_at=node_of(60), steps=0, tries=5)
    tried = [(each.rate, each.steady, each.kept) for each in search.probes]
    assert tried == [
        (50, True, True),
        (50, False, True),
        *2 * [(75, True, False)],
    ]
    assert search.share == 0
    assert 'unsteady' in search_table(search)


def test_a_machine_that_is_never_steady_is_still_measured():
    restless = itertools.cycle((100.0, 200.0))
    search = search_share(
        own=lambda: RecogniserRate(frame_ms=20.0, frames_per_s=next(restless)),
        node_at=node_of(0),
        steps=0,
        tries=4,
    )
    assert search.share == 0
    assert len(search.probes) == 4


@pytest.mark.parametrize(('share', 'passed'), [(0.9, True), (0.89, False)])
def test_the_requirement_is_a_share_of_the_recognisers_rate(share, passed):
    assert RateSearch(share=share, probes=[]).requirement.passed is passed


def test_the_table_names_the_recognisers_own_rate():
    search = search_share(own=speeds(100), node_at=node_of(60), steps=1, tries=5)
    table = search_table(search)
    assert 'highest share kept: 0.50, about 50 grid frames per second' in table
    assert (
        'by itself (medians): 100 with a frame of each camera at once, 50 with one frame at a time'
    ) in table


def test_a_faster_bundle_differs_only_in_its_frame_period(tiny_bundle):
    with faster_bundle(tiny_bundle.path, frame_period=0.0125) as folder:
        faster = load_bundle(folder)
    assert faster.spec.frame_period == 0.0125
    assert faster.spec.model_copy(update={'frame_period': 0.1}) == tiny_bundle.spec
    assert not folder.exists()
    with pytest.raises(FileNotFoundError), faster_bundle(folder, frame_period=0.1):
        pass
