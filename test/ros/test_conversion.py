# SPDX-License-Identifier: Apache-2.0
"""Conversion of hypotheses, times and bundles to messages."""

import time

import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from hypothesis import given
from hypothesis import strategies as st

from step_ros.encoders.base import TorchEncoder
from step_ros.model.bundle_schema import TaskSpec
from step_ros.ros.conversion import (
    hypothesis_message,
    model_info_message,
    to_nanoseconds,
    to_time,
)
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_time_survives_the_round_trip(stamp_ns):
    assert to_nanoseconds(to_time(stamp_ns)) == stamp_ns
    assert isinstance(to_time(stamp_ns), Time)


def test_a_hypothesis_becomes_a_message():
    spec = TaskSpec(
        name='verb',
        labels=('open', 'close', 'wave'),
        counterparts={'open': 'close', 'close': 'open'},
    )
    task = TaskHypothesis(spec=spec, scores_k=np.array([0.2, 0.7, 0.1]), order_evidence=0.4)
    received_ns = time.monotonic_ns() - 30_000_000
    hypothesis = Hypothesis(
        camera='left',
        frame_id='left_optical_frame',
        stamp_ns=3_000_000_007,
        window_start_ns=1_500_000_000,
        received_ns=received_ns,
        tasks=(task,),
    )
    message = hypothesis_message(hypothesis, model_id='tiny@1', top_k=2)
    assert to_nanoseconds(message.header.stamp) == 3_000_000_007
    assert to_nanoseconds(message.window_start) == 1_500_000_000
    assert (message.header.frame_id, message.camera) == ('left_optical_frame', 'left')
    assert message.model_id == 'tiny@1'
    (converted,) = message.tasks
    assert (converted.task, list(converted.labels)) == ('verb', ['close', 'open'])
    assert list(converted.scores) == pytest.approx([0.7, 0.2])
    assert converted.counterpart == 'open'
    assert converted.counterpart_score == pytest.approx(0.2)
    assert converted.order_evidence == pytest.approx(0.4)
    assert 30_000_000 <= to_nanoseconds(message.latency) < 10_000_000_000


def test_model_info_lists_labels_and_counterparts(tiny_bundle):
    encoder = TorchEncoder(tiny_bundle.model.backbone, device=torch.device('cpu'))
    message = model_info_message(tiny_bundle, encoder, model_id='tiny@1+int8:2', stamp_ns=5)
    assert message.model_id == 'tiny@1+int8:2'
    assert (message.device, message.runtime) == ('cpu', encoder.description)
    assert (message.frames, message.image_height, message.image_width) == (4, 32, 48)
    assert to_nanoseconds(message.frame_period) == 100_000_000
    action = message.tasks[0]
    assert list(action.labels) == ['idle', 'pick up', 'lay down', 'open', 'close']
    assert list(action.counterparts) == ['', 'lay down', 'pick up', 'close', 'open']
