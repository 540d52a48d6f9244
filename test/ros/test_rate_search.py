"""The highest rate that is kept is found by halving."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.model.bundle import load_bundle
from step_ros.ros.node_report import search_table
from step_ros.ros.rate_search import RateSearch, faster_bundle, highest_kept
from step_ros.stream.own_rate import OwnRate


@given(limit=st.floats(1, 1000), start=st.floats(10, 100), steps=st.integers(0, 10))
def test_the_limit_is_found_up_to_the_last_step(limit, start, steps):
    tried = []

    def kept(rate):
        tried.append(rate)
        return rate <= limit

    found = highest_kept(start, steps=steps, kept=kept)
    assert found <= limit
    # Doubled until it is too much, then halved between there and the last that was kept.
    width = max(start, limit) / 2**steps
    assert limit - found <= width * (1 + 1e-9)
    assert found in (0.0, *tried)
    assert found == max((rate for rate in tried if rate <= limit), default=0.0)


def test_a_rate_that_is_never_kept_is_none():
    assert highest_kept(10, steps=3, kept=lambda rate: False) == 0


@pytest.mark.parametrize(('highest', 'passed'), [(90.0, True), (89.0, False)])
def test_the_bar_is_a_share_of_the_recognisers_own_rate(highest, passed):
    own = OwnRate(frame_ms=20.0, frames_per_s=100.0)
    search = RateSearch(highest=highest, own=own, probes=[])
    assert search.bar.passed is passed
    assert 'by itself: 100, a frame of each camera at once, 50, one by one' in search_table(search)


def test_a_faster_bundle_differs_in_its_frame_period_alone(tiny_bundle):
    with faster_bundle(tiny_bundle.path, frame_period=0.0125) as folder:
        faster = load_bundle(folder)
    assert faster.spec.frame_period == 0.0125
    assert faster.spec.model_copy(update={'frame_period': 0.1}) == tiny_bundle.spec
    assert not folder.exists()
    with pytest.raises(FileNotFoundError), faster_bundle(folder, frame_period=0.1):
        pass
