# SPDX-License-Identifier: Apache-2.0
"""The rate of the recogniser alone is measured on full windows."""

import pytest
import torch

from step_ros.benchmarks.recogniser_rate import RecogniserRateMeter
from step_ros.encoders.base import TorchEncoder
from step_ros.streaming.recogniser import StreamingRecogniser

pytestmark = pytest.mark.slow


def meter(bundle, cameras):
    encoder = TorchEncoder(bundle.model.backbone, device=torch.device('cpu'))
    return RecogniserRateMeter(bundle, encoder, cameras=cameras, image_size=(48, 64)), encoder


def test_each_round_takes_one_frame_and_then_all(tiny_bundle, monkeypatch):
    rate_meter, encoder = meter(tiny_bundle, 3)
    batches = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, 'encode', lambda images: batches.append(images) or encode(images))
    rate = rate_meter.measure(0.0)
    assert [len(images) for images in batches] == 5 * [1, 2, 3]
    assert {image.shape for images in batches for image in images} == {(32, 48, 3)}  # resized
    assert rate.frame_ms > 0
    assert rate.frames_per_s > 0


def test_each_measurement_gives_hypotheses(tiny_bundle, monkeypatch):
    rate_meter, _ = meter(tiny_bundle, 2)
    given = []
    process = StreamingRecogniser.process

    def record(recogniser, frames):
        given.append(process(recogniser, frames))
        return given[-1]

    monkeypatch.setattr(StreamingRecogniser, 'process', record)
    rate_meter.measure(0.0)
    assert [len(hypotheses) for hypotheses in given] == 5 * [1, 1, 2]


def test_no_camera_is_refused(tiny_bundle):
    with pytest.raises(ValueError, match='cameras=0'):
        meter(tiny_bundle, 0)
