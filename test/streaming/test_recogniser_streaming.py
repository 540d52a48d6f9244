# SPDX-License-Identifier: Apache-2.0
"""The recogniser with streaming heads predicts what plain heads predict."""

import logging

import numpy as np
import pytest
import torch

from step_ros.model.bundle import load_bundle
from step_ros.streaming import recogniser
from step_ros.streaming.attention_cache import storage
from step_ros.streaming.recogniser import StreamingRecogniser

MS = 1_000_000
PERIOD = 100 * MS
START = 1_700_000_000_000_000_000


def run(bundle, encoder, batches, **options):
    each = StreamingRecogniser(bundle, encoder, order_tolerance=0.3, max_gap=0.4, **options)
    return each, [hypothesis for batch in batches for hypothesis in each.process(batch)]


def irregular_frames(make_film, random_stamps, *, seed, count=120):
    """Make frames of two cameras with gaps, jumps, repeats and many late frames."""
    random = np.random.default_rng(seed)
    frames = []
    for camera in ('front', 'side'):
        film = make_film(seed=seed + len(camera))
        made = [film.frame(stamp, camera=camera) for stamp in random_stamps(random, count)]
        for index in range(0, len(made) - 3, 5):
            made[index : index + 3] = [made[index + k] for k in random.permutation(3)]
        frames.append(made)
    return [frame for pair in zip(*frames, strict=False) for frame in pair]


def assert_same(one, other, *, atol):
    assert [(x.camera, x.stamp_ns, x.window_start_ns) for x in one] == [
        (x.camera, x.stamp_ns, x.window_start_ns) for x in other
    ]
    for mine, theirs in zip(one, other, strict=True):
        for task, expected in zip(mine.tasks, theirs.tasks, strict=True):
            np.testing.assert_allclose(task.scores_k, expected.scores_k, rtol=0, atol=atol)
            assert task.order_evidence == pytest.approx(expected.order_evidence, abs=atol)


@pytest.mark.parametrize('seed', range(2))
@pytest.mark.parametrize('compiled', [True, False])
@pytest.mark.parametrize(
    ('budget', 'float32_bytes', 'kept', 'atol'),
    [
        (10**9, 10**9, 'float32', 1e-4),
        (10**9, 0, 'bfloat16', 1e-3),
        (0, 10**9, 'none', 1e-4),
    ],
)
def test_streaming_equals_plain_heads_for_each_kept_type(
    seed,
    compiled,
    budget,
    float32_bytes,
    kept,
    atol,
    tiny_bundle,
    counting_encoder,
    make_film,
    random_stamps,
    batches,
    monkeypatch,
):
    monkeypatch.setattr(storage, 'FLOAT32_LIMIT_BYTES', float32_bytes)
    if not compiled:
        monkeypatch.setattr(recogniser, 'find_native', lambda: None)
    frames = irregular_frames(make_film, random_stamps, seed=seed)
    parts = list(batches(np.random.default_rng(seed), frames))
    plain, expected = run(tiny_bundle, counting_encoder, parts, streaming=False)
    streaming, streamed = run(tiny_bundle, counting_encoder, parts, memory_budget=budget)
    assert plain.not_streaming_reason == 'streaming is switched off'
    assert not streaming.not_streaming_reason
    cache = streaming.cameras['front'].cache
    assert (cache.kept, cache.compiled) == (kept, compiled)
    assert len(expected) > 20
    counts = streaming.cameras['front'].counts
    assert counts['reordered']
    assert counts['gap'] + counts['jump']
    assert counts == plain.cameras['front'].counts
    assert_same(streamed, expected, atol=atol)


def test_reset_forgets_the_frames_before(tiny_bundle, counting_encoder, make_film):
    first, second = make_film(seed=1).steady(6), make_film(seed=2).steady(6)
    streaming = StreamingRecogniser(tiny_bundle, counting_encoder)
    streaming.process(first)
    streaming.reset()
    streamed = streaming.process(second)
    expected = StreamingRecogniser(tiny_bundle, counting_encoder, streaming=False).process(second)
    assert_same(streamed, expected, atol=1e-4)


def test_other_heads_run_on_whole_windows_and_log_why(
    tiny_model, save_tiny_bundle, counting_encoder, tmp_path, caplog
):
    save_tiny_bundle(tmp_path, tiny_model(head='linear'))
    with caplog.at_level(logging.INFO, logger='step_ros'):
        plain = StreamingRecogniser(load_bundle(tmp_path), counting_encoder)
    assert 'LinearProbe, not StepHead' in plain.not_streaming_reason
    assert f'heads run on whole windows: {plain.not_streaming_reason}' in caplog.text
    assert plain.prepare('front').cache is None


def test_prepare_allocates_all_memory_and_logs_it(tiny_bundle, counting_encoder, film, caplog):
    streaming = StreamingRecogniser(tiny_bundle, counting_encoder)
    with caplog.at_level(logging.INFO, logger='step_ros'):
        stream = streaming.prepare('front')
    assert "camera 'front': heads stream, exponentials kept: float32" in caplog.text
    cache, stated = stream.cache, stream.cache.bytes
    streaming.process(film.steady(30))
    assert streaming.cameras == {'front': stream}
    assert stream.cache is cache
    assert cache.bytes == stated
    # The window does not keep the tokens as well.
    assert stream.window.newest.tokens_nd is None


def test_negative_budget_is_refused(tiny_bundle, counting_encoder):
    with pytest.raises(ValueError, match=r'memory_budget=-1: expected 0 or more'):
        StreamingRecogniser(tiny_bundle, counting_encoder, memory_budget=-1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('float32_bytes', [10**9, 0])
def test_gpu_predicts_what_the_cpu_predicts(
    float32_bytes, tiny_bundle, counting_encoder, film, monkeypatch
):
    from step_ros.encoders.base import TorchEncoder

    monkeypatch.setattr(storage, 'FLOAT32_LIMIT_BYTES', float32_bytes)
    frames = film.steady(12)
    expected = StreamingRecogniser(tiny_bundle, counting_encoder, streaming=False).process(frames)
    heads = tiny_bundle.model.heads
    try:
        encoder = TorchEncoder(tiny_bundle.model.backbone, device=torch.device('cuda'))
        streamed = StreamingRecogniser(tiny_bundle, encoder).process(frames)
    finally:
        heads.to('cpu')
        tiny_bundle.model.backbone.to('cpu')
    assert_same(streamed, expected, atol=2e-3)
