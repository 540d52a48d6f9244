# SPDX-License-Identifier: Apache-2.0
"""From windows to hypotheses: streaming and plain heads give the same scores."""

import numpy as np
import pytest
import torch

from step_ros.streaming.attention_cache.cache import HeadCache
from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads
from step_ros.streaming.frame import FrameHeader
from step_ros.streaming.recogniser import FullWindow, WindowClassifier

FRAMES = 4


@pytest.fixture
def heads(tiny_bundle):
    """Make streaming heads of the tiny bundle."""
    backbone = tiny_bundle.model.backbone
    return StreamingHeads(dict(tiny_bundle.model.heads.items()), tokens=backbone.tokens)


@pytest.fixture
def clips_btnd(tiny_bundle):
    """Make tokens of two windows."""
    backbone = tiny_bundle.model.backbone
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, FRAMES, backbone.tokens, backbone.width, generator=generator)


def windows_of(clips_btnd):
    """Make full windows of two cameras with these tokens."""
    return [
        FullWindow(
            newest=FrameHeader(
                camera=f'camera{index}', frame_id='lens', stamp_ns=400 + index, received_ns=7
            ),
            start_ns=100 + index,
            tokens_tnd=x_tnd,
        )
        for index, x_tnd in enumerate(clips_btnd)
    ]


def attended(heads, clips_btnd):
    """Return the attended values of each window, forwards and reversed."""
    values = []
    for x_tnd in clips_btnd:
        cache = HeadCache(heads, kept='float32')
        for place, qkv_3gnc in enumerate(heads.project(x_tnd)):
            cache.store_frame(place, qkv_3gnc)
        values.append(cache.attend([range(FRAMES), range(FRAMES)[::-1]]))
    return values


def test_streaming_heads_predict_what_plain_heads_predict(tiny_bundle, heads, clips_btnd):
    plain = WindowClassifier(tiny_bundle, None, order_evidence=True)
    streaming = WindowClassifier(tiny_bundle, heads, order_evidence=True)
    expected = plain.predict(windows_of(clips_btnd), [])
    streamed = streaming.predict(windows_of(clips_btnd), attended(heads, clips_btnd))
    for index, (one, other) in enumerate(zip(streamed, expected, strict=True)):
        assert (one.camera, one.frame_id) == (f'camera{index}', 'lens')
        assert (one.stamp_ns, one.window_start_ns, one.received_ns) == (
            400 + index,
            100 + index,
            7,
        )
        for task, wanted in zip(one.tasks, other.tasks, strict=True):
            assert task.spec is wanted.spec
            np.testing.assert_allclose(task.scores_k, wanted.scores_k, atol=1e-5)
            assert task.order_evidence == pytest.approx(wanted.order_evidence, abs=1e-5)
    assert not np.allclose(streamed[0].tasks[0].scores_k, streamed[1].tasks[0].scores_k)


def test_order_evidence_is_nan_if_switched_off(tiny_bundle, clips_btnd):
    classifier = WindowClassifier(tiny_bundle, None, order_evidence=False)
    for hypothesis in classifier.predict(windows_of(clips_btnd), []):
        assert all(np.isnan(task.order_evidence) for task in hypothesis.tasks)


def test_nan_tokens_give_nan_scores(tiny_bundle, clips_btnd):
    clips_btnd[0, 1, 2, 3] = float('nan')
    broken, other = WindowClassifier(tiny_bundle, None, order_evidence=True).predict(
        windows_of(clips_btnd), []
    )
    assert np.isnan(broken.tasks[0].scores_k).all()
    assert np.isfinite(other.tasks[0].scores_k).all()
