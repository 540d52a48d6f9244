# SPDX-License-Identifier: Apache-2.0
"""The frame timer: it fills windows, as on a robot."""

import torch

from step_ros.encoders.base import TorchEncoder
from step_ros.streaming.frame_timer import FrameTimer
from step_ros.streaming.recogniser import StreamingRecogniser


def test_frames_are_timed_on_windows_that_fill(tiny_bundle):
    encoder = TorchEncoder(tiny_bundle.model.backbone, device=torch.device('cpu'))
    recogniser = StreamingRecogniser(tiny_bundle, encoder)
    timer = FrameTimer(recogniser)
    assert all(ms > 0 for ms in timer.run(tiny_bundle.spec.frames + 1))
    assert recogniser.cameras[''].window.full
    assert recogniser.cameras[''].counts['new'] == tiny_bundle.spec.frames
