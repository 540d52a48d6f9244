# SPDX-License-Identifier: Apache-2.0
"""Metrics of predictions that are small enough to score by hand."""

import numpy as np
import pytest

from step_ros.evaluation.metrics import task_metrics

LABELS = ('open', 'close', 'wave')
PAIRS = {'open': 'close', 'close': 'open'}


def scores(predicted, sure=0.8):
    table = np.full((len(predicted), 3), (1 - sure) / 2, np.float32)
    table[np.arange(len(predicted)), predicted] = sure
    return table


def test_metrics_of_a_case_computed_by_hand():
    targets = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted = np.array([0, 0, 1, 2, 1, 0, 2, 2, 2, 0])
    found = task_metrics(scores(predicted), targets, LABELS, PAIRS, training_counts=[9, 1, 5])
    assert found['clips'] == 10
    assert found['top1'] == 0.6
    assert found['symmetric_top1'] == 0.5
    assert found['other_top1'] == 0.75
    assert found['to_counterpart'] == pytest.approx(2 / 6, abs=1e-4)
    assert found['balanced'] == pytest.approx((0.5 + 0.5 + 0.75) / 3, abs=1e-4)
    assert found['common'] == pytest.approx((0.5 + 0.75) / 2, abs=1e-4)
    assert found['rare'] == 0.5
    assert found['calibration_error'] == pytest.approx(0.2, abs=1e-4)
    assert 'top5' not in found
    assert found['labels']['open'] == {
        'clips': 4,
        'top1': 0.5,
        'confused_with': 'close',
        'confusion': 0.25,
    }


def test_labels_without_clips_are_not_counted():
    found = task_metrics(scores(np.array([0, 2])), np.array([0, 2]), LABELS, PAIRS)
    assert found['balanced'] == 1.0
    assert set(found['labels']) == {'open', 'wave'}
    assert found['labels']['wave']['confused_with'] == ''


def test_top5_counts_the_five_best():
    labels = tuple('abcdefg')
    table = np.tile(np.linspace(0.7, 0.1, 7, dtype=np.float32), (7, 1))
    found = task_metrics(table, np.arange(7), labels, {})
    assert found['top1'] == pytest.approx(1 / 7, abs=1e-4)
    assert found['top5'] == pytest.approx(5 / 7, abs=1e-4)


def test_no_clips_are_an_error():
    with pytest.raises(ValueError, match='is the split empty'):
        task_metrics(np.zeros((0, 3)), np.zeros(0, int), LABELS, PAIRS)
