# SPDX-License-Identifier: Apache-2.0
"""The panel beside a frame: even sizes for any image, and colours for right and wrong."""

import numpy as np
import pytest

from step_ros.evaluation.ground_truth import Observation, TaskPrediction, Truth
from step_ros.visualization.demo import PANEL_WIDTH, annotate


def seen(label='open drawer'):
    prediction = TaskPrediction(
        label=label,
        score=0.8,
        counterpart='close drawer',
        counterpart_score=0.15,
        order_evidence=0.6,
    )
    return Observation(
        camera='front',
        window_start_ns=0,
        stamp_ns=10,
        arrival_ns=11,
        node_latency_ns=1,
        predictions={'action': prediction, 'verb': prediction, 'object': prediction},
    )


@pytest.mark.parametrize('size', [(480, 640), (121, 161), (1080, 1920)])
@pytest.mark.parametrize('observation', [None, seen()])
def test_frame_stays_whole_and_sizes_are_even(size, observation):
    image = np.full((*size, 3), 77, np.uint8)
    framed = annotate(image, 10, observation, Truth())
    assert framed.shape[0] % 2 == framed.shape[1] % 2 == 0
    height, width = min(size[0], framed.shape[0]), size[1]
    assert (framed[: height - 1, :width] == 77).all()
    assert width + PANEL_WIDTH - framed.shape[1] in (0, 1)


def test_right_labels_are_green_and_wrong_labels_red():
    image = np.zeros((480, 640, 3), np.uint8)
    truth = Truth()
    truth.start('action', 'open drawer', 0)
    right = annotate(image, 10, seen('open drawer'), truth)[:, 640:].reshape(-1, 3)
    wrong = annotate(image, 10, seen('close drawer'), truth)[:, 640:].reshape(-1, 3)
    green, red = (90, 200, 110), (235, 90, 80)
    assert (right == green).all(axis=1).any()
    assert not (right == red).all(axis=1).any()
    assert (wrong == red).all(axis=1).any()
