# SPDX-License-Identifier: Apache-2.0
"""The worker: frames in, hypotheses out, in a thread of its own; it survives failures."""

import queue

import numpy as np
import pytest
import torch

from step_ros.encoders.base import TorchEncoder
from step_ros.images.errors import FrameError
from step_ros.streaming.frame import Frame
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.streaming.worker import Worker

PERIOD_NS = 100_000_000


def frame(slot, load=lambda: np.full((32, 48, 3), 90, np.uint8)):
    return Frame(camera='front', stamp_ns=1 + slot * PERIOD_NS, load=load)


@pytest.fixture
def running(tiny_bundle):
    """Run a worker; return it with queues of its hypotheses, problems, failures and crashes.

    A test may set `out['raise']`: the worker's `on_batch` then raises it.
    """
    encoder = TorchEncoder(tiny_bundle.model.backbone, device=torch.device('cpu'))
    out = {name: queue.Queue() for name in ('hypothesis', 'problem', 'failure', 'crash')}

    def on_batch(frames, hypotheses):
        if 'raise' in out:
            raise out['raise']
        assert {frame.stamp_ns for frame in frames} >= {each.stamp_ns for each in hypotheses}
        for hypothesis in hypotheses:
            out['hypothesis'].put(hypothesis)

    worker = Worker(
        StreamingRecogniser(tiny_bundle, encoder),
        queue_size=50,
        on_batch=on_batch,
        on_problem=out['problem'].put,
        on_failure=out['failure'].put,
        on_crash=out['crash'].put,
    )
    worker.start()
    yield worker, out
    worker.stop()


def test_worker_hands_on_hypotheses_and_problems(running):
    worker, out = running

    def unreadable():
        raise FrameError('undecodable', 'not a JPEG')

    for slot in range(4):
        worker.put_frame(frame(slot))
    assert out['hypothesis'].get(timeout=20).stamp_ns == 1 + 3 * PERIOD_NS
    worker.put_frame(frame(4, unreadable))
    assert out['problem'].get(timeout=20).cause == 'undecodable'
    worker.put_frame(frame(5))
    assert out['hypothesis'].get(timeout=20).stamp_ns == 1 + 5 * PERIOD_NS
    counts = worker.queue.counts('front')
    assert (counts['undecodable'], counts['missed_slots'], counts['waiting']) == (1, 1, 0)


def test_refused_message_is_counted_and_reported(running):
    worker, out = running
    worker.refuse('front', FrameError('malformed', 'it ends within data'))
    problem = out['problem'].get(timeout=20)
    assert (problem.camera, problem.cause) == ('front', 'malformed')
    counts = worker.queue.counts('front')
    assert counts == {'received': 1, 'malformed': 1, 'waiting': 0}


def test_failing_model_is_reported_and_the_worker_goes_on(running, monkeypatch):
    worker, out = running

    def broken(images):
        monkeypatch.undo()
        raise MemoryError('out of memory')

    monkeypatch.setattr(worker.recogniser.encoder, 'encode', broken)
    worker.put_frame(frame(0))
    assert isinstance(out['failure'].get(timeout=20), MemoryError)
    assert worker.failures == 1
    for slot in range(1, 5):
        worker.put_frame(frame(slot))
    hypothesis = out['hypothesis'].get(timeout=20)
    assert hypothesis.window_start_ns == 1 + PERIOD_NS
    assert worker.queue.counts('front')['failed'] == 1


def test_stopping_twice_is_fine(running):
    worker, _ = running
    worker.stop()
    worker.stop()
    worker.put_frame(frame(0))


def test_crash_of_the_worker_is_reported(running):
    worker, out = running
    out['raise'] = ZeroDivisionError()
    worker.put_frame(frame(0))
    assert isinstance(out['crash'].get(timeout=20), ZeroDivisionError)
    worker.put_frame(frame(1))
    assert worker.queue.counts('front')['received'] == 1
