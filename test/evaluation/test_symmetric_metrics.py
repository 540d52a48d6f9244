# SPDX-License-Identifier: Apache-2.0
"""Metrics of nearly symmetric labels, on cases worked by hand."""

import numpy as np

from step_ros.evaluation.metrics import symmetric_metrics

LABELS = ('open', 'close', 'wave')
PARTNERS = {'open': 'close', 'close': 'open'}


def test_symmetric_metrics_on_a_case_worked_by_hand():
    scores = np.array(
        [
            [0.8, 0.1, 0.1],  # open, right
            [0.6, 0.3, 0.1],  # close, answered with the counterpart
            [0.1, 0.3, 0.6],  # close, wrong, yet above its counterpart
            [0.3, 0.3, 0.4],  # open, wrong, tied with its counterpart
            [0.1, 0.1, 0.8],  # wave, right
        ]
    )
    metrics = symmetric_metrics(scores, np.array([0, 1, 1, 0, 2]), LABELS, PARTNERS)
    assert metrics == {
        'top1': 0.4,
        'symmetric_top1': 0.25,
        'within_pair': 0.625,
        'to_counterpart': 0.25,
        'other_top1': 1.0,
    }


def test_a_task_without_counterparts_has_no_symmetric_figures():
    metrics = symmetric_metrics(np.eye(3), np.arange(3), LABELS, {})
    assert metrics == {'top1': 1.0, 'other_top1': 1.0}
