"""What the recogniser does by itself is measured on full windows."""

import pytest
import torch

from step_ros.benchmarks.recogniser_rate import OwnRateMeter
from step_ros.encoders.base import TorchEncoder


def meter(bundle, cameras):
    encoder = TorchEncoder(bundle.model.backbone, device=torch.device('cpu'))
    return OwnRateMeter(bundle, encoder, cameras=cameras, image_size=(48, 64)), encoder


def test_every_turn_takes_one_frame_and_then_all(tiny_bundle, monkeypatch):
    own, encoder = meter(tiny_bundle, 3)
    batches = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, 'encode', lambda images: batches.append(images) or encode(images))
    rate = own.measure(0.0)
    assert [len(images) for images in batches] == 5 * [1, 2, 3]
    assert {image.shape for images in batches for image in images} == {(32, 48, 3)}  # fitted
    assert rate.frame_ms > 0
    assert rate.frames_per_s > 0


def test_each_measurement_gives_hypotheses(tiny_bundle, monkeypatch):
    own, _ = meter(tiny_bundle, 2)
    said = []
    process = own._recogniser.process
    monkeypatch.setattr(
        own._recogniser, 'process', lambda frames: said.append(process(frames)) or said[-1]
    )
    own.measure(0.0)
    assert [len(hypotheses) for hypotheses in said] == 5 * [1, 1, 2]


def test_no_camera_is_refused(tiny_bundle):
    with pytest.raises(ValueError, match='cameras=0'):
        meter(tiny_bundle, 0)
