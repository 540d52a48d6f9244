"""How many threads a model gets is measured, and what was measured is said."""

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
    """Have two threads, whatever the machine has, and leave the number as it was."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, 'ALL_THREADS', 2)
    yield torch.get_num_threads
    set_threads(before)


@pytest.fixture
def starts(tiny_bundle) -> tuple[Callable, list[int]]:
    """Start encoders, and note how many threads there were each time."""
    noted = []

    def start():
        noted.append(torch.get_num_threads())
        return TorchEncoder(tiny_bundle.model.backbone, device=torch.device('cpu'))

    return start, noted


def pretend(monkeypatch, *, one_ms, all_ms):
    def run(self, frames):
        return frames * [one_ms if torch.get_num_threads() == 1 else all_ms]

    monkeypatch.setattr(FrameTimer, 'run', run)


@pytest.mark.parametrize(
    ('one_ms', 'all_ms', 'wanted'), [(4.0, 3.0, 1), (4.5, 3.0, 1), (4.6, 3.0, 2), (3.0, 9.0, 1)]
)
def test_one_thread_unless_all_are_worth_it(
    one_ms, all_ms, wanted, count, starts, tiny_bundle, monkeypatch
):
    pretend(monkeypatch, one_ms=one_ms, all_ms=all_ms)
    start, noted = starts
    encoder = start_encoder(0, start, lambda each: StreamingRecogniser(tiny_bundle, each))
    assert count() == wanted
    assert noted == [2, 1]
    assert f'threads: {wanted} (a frame takes {one_ms} ms with 1, {all_ms} with 2)' in (
        encoder.description
    )


def test_a_slow_model_gets_all_threads_without_a_long_measurement(
    count, starts, tiny_bundle, monkeypatch
):
    pretend(monkeypatch, one_ms=0.1, all_ms=26.0)
    start, noted = starts
    torch.set_num_threads(1)
    encoder = start_encoder(0, start, lambda each: StreamingRecogniser(tiny_bundle, each))
    assert (count(), noted) == (2, [2])
    assert 'threads' not in encoder.description


def test_who_asks_for_a_number_gets_it(count, starts, tiny_bundle):
    start, noted = starts
    start_encoder(1, start, lambda each: StreamingRecogniser(tiny_bundle, each))
    assert (count(), noted) == (1, [1])


def test_the_real_measurement_chooses_one_of_both(count, starts, tiny_bundle):
    start_encoder(0, starts[0], lambda each: StreamingRecogniser(tiny_bundle, each))
    assert count() in (1, 2)
