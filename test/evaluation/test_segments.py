# SPDX-License-Identifier: Apache-2.0
"""Segmental metrics: cases computed by hand, and properties of any sequence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ros.evaluation.segments import LabelRun, SegmentCounts, edit_score, find_segments, runs

A, B, C, NONE = 0, 1, 2, 9
TRUE = 4 * [A] + 4 * [B] + 2 * [C]

labels = st.lists(st.integers(0, 3), max_size=30)


def counts_of(predicted, true, overlap, background=()):
    return find_segments(
        runs(predicted, background=background), runs(true, background=background), overlap=overlap
    )


def test_runs_are_cut_where_the_label_changes():
    cut = runs([A, A, B, NONE, B], background={NONE})
    assert cut == [LabelRun(A, 0, 2), LabelRun(B, 2, 3), LabelRun(B, 4, 5)]
    assert runs([]) == []


@pytest.mark.parametrize(
    ('predicted', 'overlap', 'expected'),
    [
        (TRUE, 1.0, SegmentCounts(3, 0, 0)),
        # A overlaps with 3/4, B with 4/5, C with 2/2.
        (3 * [A] + 5 * [B] + 2 * [C], 0.75, SegmentCounts(3, 0, 0)),
        (3 * [A] + 5 * [B] + 2 * [C], 0.76, SegmentCounts(2, 1, 1)),
        # A is split into 1/4 and 2/4 by a B; only one of them can match the true segment.
        ([A, B, A, A] + 4 * [B] + 2 * [C], 0.25, SegmentCounts(3, 2, 0)),
        ([A, B, A, A] + 4 * [B] + 2 * [C], 0.5, SegmentCounts(3, 2, 0)),
        ([A, B, A, A] + 4 * [B] + 2 * [C], 0.51, SegmentCounts(2, 3, 1)),
        (10 * [A], 0.25, SegmentCounts(1, 0, 2)),
        (10 * [NONE], 0.1, SegmentCounts(0, 1, 3)),
    ],
)
def test_segment_counts_of_cases_computed_by_hand(predicted, overlap, expected):
    assert counts_of(predicted, TRUE, overlap) == expected


def test_f1_of_cases_computed_by_hand():
    assert SegmentCounts(3, 2, 0).f1 == pytest.approx(6 / 8)
    assert (SegmentCounts(3, 2, 0) + SegmentCounts(0, 1, 3)).f1 == pytest.approx(6 / 12)
    assert SegmentCounts().f1 == 1.0
    assert SegmentCounts(0, 1, 0).f1 == 0.0


def test_background_counts_as_no_segment():
    true = [NONE, NONE, A, A, NONE]
    assert counts_of([NONE, NONE, NONE, A, A], true, 0.3, {NONE}) == SegmentCounts(1, 0, 0)
    assert counts_of(5 * [NONE], true, 0.1, {NONE}) == SegmentCounts(0, 0, 1)


@pytest.mark.parametrize(
    ('predicted', 'expected'),
    [
        (TRUE, 1.0),
        (9 * [A] + [B], 2 / 3),  # C is missing
        ([C, B, A], 1 / 3),
        ([A, B, A, B, C], 3 / 5),
        ([], 0.0),
    ],
)
def test_edit_scores_of_cases_computed_by_hand(predicted, expected):
    assert edit_score(runs(predicted), runs(TRUE)) == pytest.approx(expected)


def test_edit_score_of_empty_sequences_is_one():
    assert edit_score([], []) == 1.0


@given(labels, labels)
def test_scores_are_in_range_and_edit_score_is_symmetric(one, other):
    ours, theirs = runs(one), runs(other)
    score = edit_score(ours, theirs)
    assert 0 <= score <= 1
    assert score == edit_score(theirs, ours)
    assert (score == 1) == ([r.label for r in ours] == [r.label for r in theirs])
    counts = [find_segments(ours, theirs, overlap=share) for share in (0.1, 0.25, 0.5, 1.0)]
    for count in counts:
        assert count.right + count.wrong == len(ours)
        assert count.right + count.missed == len(theirs)
    assert counts[-1].f1 <= counts[-2].f1  # overlaps of more than a half are mutual


@given(labels, st.sampled_from([0.1, 0.5, 1.0]))
def test_equal_sequences_have_perfect_scores(some, overlap):
    assert counts_of(some, some, overlap).f1 == 1.0
    assert edit_score(runs(some), runs(some)) == 1.0
