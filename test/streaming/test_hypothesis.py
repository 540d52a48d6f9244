# SPDX-License-Identifier: Apache-2.0
"""Hypotheses: best labels, calibrated probabilities and the Jensen-Shannon divergence."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.hypothesis import TaskHypothesis, jensen_shannon, probabilities

SPEC = TaskSpec(
    name='action',
    labels=('idle', 'open', 'close'),
    counterparts={'open': 'close', 'close': 'open'},
)


def task_hypothesis(*scores):
    return TaskHypothesis(spec=SPEC, scores_k=np.array(scores), order_evidence=math.nan)


@st.composite
def distributions(draw, count=2):
    """Draw probabilities, zeros among them."""
    size = draw(st.integers(2, 6))
    weights = st.one_of(st.just(0.0), st.floats(1e-12, 1.0))
    rows = draw(
        st.lists(
            st.lists(weights, min_size=size, max_size=size).filter(any),
            min_size=count,
            max_size=count,
        )
    )
    return [np.array([row]) / sum(row) for row in rows]


# ---- a task's hypothesis


@pytest.mark.parametrize(
    ('scores', 'label', 'counterpart'),
    [
        ((0.1, 0.7, 0.2), 'open', 'close'),
        ((0.1, 0.2, 0.7), 'close', 'open'),
        ((0.6, 0.2, 0.2), 'idle', ''),
        ((0.2, 0.4, 0.4), 'open', 'close'),
    ],
)
def test_best_label_and_its_counterpart(scores, label, counterpart):
    hypothesis = task_hypothesis(*scores)
    assert (hypothesis.label, hypothesis.counterpart) == (label, counterpart)


def test_scores_are_found_by_label():
    hypothesis = task_hypothesis(0.1, 0.7, 0.2)
    assert [hypothesis.score_of(label) for label in ('idle', 'open', 'close', '')] == [
        0.1,
        0.7,
        0.2,
        0.0,
    ]


def test_top_is_best_first_with_ties_in_bundle_order():
    hypothesis = task_hypothesis(0.2, 0.4, 0.4)
    assert hypothesis.top(2) == [('open', 0.4), ('close', 0.4)]
    assert hypothesis.top(9) == [('open', 0.4), ('close', 0.4), ('idle', 0.2)]
    assert hypothesis.top(1)[0][0] == hypothesis.label


# ---- calibration


def test_probabilities_are_the_tempered_softmax():
    logits_bk = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.0, 0.0]])
    expected = np.exp(logits_bk.double().numpy() / 2.5)
    expected /= expected.sum(axis=1, keepdims=True)
    scores_bk = probabilities(logits_bk, 2.5)
    assert scores_bk.dtype == np.float64
    np.testing.assert_allclose(scores_bk, expected, rtol=1e-12)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=8), st.floats(0.01, 100.0))
def test_probabilities_sum_to_one_and_keep_the_order(logits, temperature):
    scores_k = probabilities(torch.tensor([logits]), temperature)[0]
    assert np.isfinite(scores_k).all()
    assert scores_k.sum() == pytest.approx(1.0, abs=1e-12)
    assert (np.diff(scores_k[np.argsort(logits)]) >= 0).all()


def test_higher_temperature_gives_flatter_scores():
    logits_bk = torch.tensor([[1.0, 2.0, -1.0]])
    best = [probabilities(logits_bk, temperature).max() for temperature in (0.5, 1.0, 2.0, 100.0)]
    assert best == sorted(best, reverse=True)
    assert best[-1] == pytest.approx(1 / 3, abs=0.01)


# ---- Jensen-Shannon divergence


@given(distributions())
def test_divergence_is_symmetric_and_between_0_and_1(pair):
    p_bk, q_bk = pair
    (divergence,) = jensen_shannon(p_bk, q_bk)
    assert 0.0 <= divergence <= 1.0
    assert jensen_shannon(q_bk, p_bk)[0] == divergence


@given(distributions())
def test_divergence_equals_the_formula(pair):
    p_bk, q_bk = pair
    expected = 0.0
    for p, q in zip(p_bk[0], q_bk[0], strict=True):
        for each in (p, q):
            if each > 0:
                expected += each * math.log2(each / ((p + q) / 2)) / 2
    assert jensen_shannon(p_bk, q_bk)[0] == pytest.approx(expected, abs=1e-12)


@given(distributions(count=1))
def test_divergence_from_itself_is_zero(single):
    assert jensen_shannon(single[0], single[0].copy())[0] == 0.0


@pytest.mark.parametrize(
    ('p', 'q', 'expected'),
    [
        ([1.0, 0.0], [0.0, 1.0], 1.0),
        ([0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5], 1.0),
        ([1.0, 0.0], [0.5, 0.5], 0.311278124459),
    ],
)
def test_known_divergences(p, q, expected):
    assert jensen_shannon(np.array([p]), np.array([q]))[0] == pytest.approx(expected, abs=1e-9)


def test_each_row_has_its_own_divergence():
    p_bk = np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    q_bk = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert jensen_shannon(p_bk, q_bk).tolist() == [0.0, 0.0, 1.0]
