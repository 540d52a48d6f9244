# SPDX-License-Identifier: Apache-2.0
"""The streaming recogniser: how much the order of frames mattered."""

import math
from dataclasses import replace

import numpy as np
import pytest

from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads
from step_ros.streaming.recogniser import StreamingRecogniser


def evidences(hypotheses):
    return np.array([[task.order_evidence for task in each.tasks] for each in hypotheses])


def test_order_evidence_is_in_range_and_positive(recogniser, film):
    evidence = evidences(recogniser.process(film.steady(40)))
    assert evidence.shape == (37, 3)
    assert (evidence > 1e-6).all()
    assert (evidence <= 1.0).all()
    assert np.median(evidence) > 1e-3


def test_heads_without_positions_give_no_order_evidence(orderless_bundle, counting_encoder, film):
    recogniser = StreamingRecogniser(orderless_bundle, counting_encoder)
    evidence = evidences(recogniser.process(film.steady(40)))
    assert evidence.shape == (37, 3)
    assert (evidence >= 0).all()
    assert (evidence < 1e-9).all()


def test_order_evidence_is_symmetric(tiny_bundle, counting_encoder, make_film):
    frames = make_film().steady(4)
    forwards = StreamingRecogniser(tiny_bundle, counting_encoder).process(frames)
    mirrored = [
        replace(frame, load=other.load)
        for frame, other in zip(frames, reversed(frames), strict=True)
    ]
    backwards = StreamingRecogniser(tiny_bundle, counting_encoder).process(mirrored)
    np.testing.assert_allclose(evidences(forwards), evidences(backwards), rtol=0, atol=1e-6)
    for one, other in zip(forwards[0].tasks, backwards[0].tasks, strict=True):
        assert np.abs(one.scores_k - other.scores_k).max() > 1e-3


@pytest.mark.parametrize('streaming', [True, False])
@pytest.mark.parametrize('order_evidence', [True, False])
def test_reversed_window_runs_only_for_order_evidence(
    order_evidence, streaming, tiny_bundle, counting_encoder, film, monkeypatch
):
    classified = []
    classifier = tiny_bundle.model.heads['action'].classifier
    hook = classifier.register_forward_hook(lambda _, given, __: classified.append(len(given[0])))
    classify = StreamingHeads.classify

    def counted(heads, sums_vgc):
        classified.append(len(sums_vgc))
        return classify(heads, sums_vgc)

    monkeypatch.setattr(StreamingHeads, 'classify', counted)
    recogniser = StreamingRecogniser(
        tiny_bundle, counting_encoder, order_evidence=order_evidence, streaming=streaming
    )
    hypotheses = recogniser.process(film.steady(6))
    hook.remove()
    assert len(hypotheses) == 3
    assert sum(classified) == 3 * (2 if order_evidence else 1)
    for hypothesis in hypotheses:
        for task in hypothesis.tasks:
            assert math.isnan(task.order_evidence) != order_evidence
            assert task.scores_k.sum() == pytest.approx(1.0)
