# SPDX-License-Identifier: Apache-2.0
"""The number of threads of a model is measured, and the measurement is described."""

from collections.abc import Callable

import pytest
import torch

from step_ros.encoders.base import TorchEncoder
from step_ros.streaming import threads
from step_ros.streaming.frame_timer import FrameTimer
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.streaming.threads import set_threads, start_encoder


@pytest.fixture
def count(monkeypatch):
    """Pretend that the machine has two threads; restore the number afterwards."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, 'ALL_THREADS', 2)
    yield torch.get_num_threads
    set_threads(before)


@pytest.fixture
def starts(tiny_bundle) -> tuple[Callable, list[int]]:
    """Start encoders, and record the number of threads at each start."""
    thread_counts = []

    def start():
        thread_counts.append(torch.get_num_threads())
        return TorchEncoder(tiny_bundle.model.backbone, device=torch.device('cpu'))

    return start, thread_counts


def pretend(monkeypatch, *, one_ms, all_ms):
    def run(self, frames):
        return frames * [one_ms if torch.get_num_threads() == 1 else all_ms]

    monkeypatch.setattr(FrameTimer, 'run', run)


@pytest.mark.parametrize(
    ('one_ms', 'all_ms', 'expected'), [(4.0, 3.0, 1), (4.5, 3.0, 1), (4.6, 3.0, 2), (3.0, 9.0, 1)]
)
def test_one_thread_is_chosen_unless_all_are_faster(
    one_ms, all_ms, expected, count, starts, tiny_bundle, monkeypatch
):
    pretend(monkeypatch, one_ms=one_ms, all_ms=all_ms)
    start, thread_counts = starts
    encoder = start_encoder(0, start, lambda each: StreamingRecogniser(tiny_bundle, each))
    assert count() == expected
    assert thread_counts == [2, 1]
    assert f'threads: {expected} (a frame takes {one_ms} ms with 1, {all_ms} with 2)' in (
        encoder.description
    )


def test_slow_model_gets_all_threads_without_measuring_one(
    count, starts, tiny_bundle, monkeypatch
):
    pretend(monkeypatch, one_ms=0.1, all_ms=26.0)
    start, thread_counts = starts
    torch.set_num_threads(1)
    encoder = start_encoder(0, start, lambda each: StreamingRecogniser(tiny_bundle, each))
    assert (count(), thread_counts) == (2, [2])
    assert 'threads' not in encoder.description


def test_requested_number_of_threads_is_used(count, starts, tiny_bundle):
    start, thread_counts = starts
    start_encoder(1, start, lambda each: StreamingRecogniser(tiny_bundle, each))
    assert (count(), thread_counts) == (1, [1])


def test_real_measurement_chooses_one_or_all(count, starts, tiny_bundle):
    start_encoder(0, starts[0], lambda each: StreamingRecogniser(tiny_bundle, each))
    assert count() in (1, 2)
