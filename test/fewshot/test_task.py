# SPDX-License-Identifier: Apache-2.0
"""Metrics of a few-shot task."""

import numpy as np
import pytest
import torch

from step_ros.fewshot.task import example_scores


def test_scores_of_an_examples_windows_are_averaged():
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 9.0]])
    scores, examples = example_scores(logits, np.array([0, 0, 3]))
    assert examples.tolist() == [0, 3]
    assert scores[0] == pytest.approx([0.5, 0.5])
    assert scores[1, 1] > 0.99
