"""The worker: frames in, hypotheses out, in a thread of its own, and no failure ends it."""

import queue

import numpy as np
import pytest
import torch

from step_ros.ros.diagnostics import camera_status, model_status
from step_ros.ros.worker import Worker
from step_ros.stream.encoder import TorchEncoder
from step_ros.stream.frame import Frame, FrameError
from step_ros.stream.recogniser import StreamingRecogniser

PERIOD_NS = 100_000_000


def frame(slot, load=lambda: np.full((32, 48, 3), 90, np.uint8)):
    return Frame(camera='front', stamp_ns=1 + slot * PERIOD_NS, load=load)


@pytest.fixture
def running(tiny_bundle):
    """A running worker with queues of what it handed on."""
    encoder = TorchEncoder(tiny_bundle.model.backbone, device=torch.device('cpu'))
    out = {name: queue.Queue() for name in ('hypothesis', 'problem', 'failure')}
    worker = Worker(
        StreamingRecogniser(tiny_bundle, encoder),
        queue_size=50,
        on_hypothesis=out['hypothesis'].put,
        on_problem=out['problem'].put,
        on_failure=out['failure'].put,
    )
    worker.start()
    yield worker, out
    worker.stop()


def test_hypotheses_and_problems_come_out(running):
    worker, out = running

    def unreadable():
        raise FrameError('undecodable', 'not a JPEG')

    for slot in range(4):
        worker.queue.put(frame(slot))
    assert out['hypothesis'].get(timeout=20).stamp_ns == 1 + 3 * PERIOD_NS
    worker.queue.put(frame(4, unreadable))
    assert out['problem'].get(timeout=20).cause == 'undecodable'
    worker.queue.put(frame(5))
    assert out['hypothesis'].get(timeout=20).stamp_ns == 1 + 5 * PERIOD_NS
    status = camera_status('/perception', 'front', worker, frames=4)
    assert 'window 4/4' in status.message
    assert 'undecodable 1' in status.message
    assert 'missed_slots 1' in status.message


def test_a_failing_model_is_reported_and_work_goes_on(running, monkeypatch):
    worker, out = running

    def broken(images):
        monkeypatch.undo()
        raise MemoryError('out of memory')

    monkeypatch.setattr(worker.recogniser.encoder, 'encode', broken)
    worker.queue.put(frame(0))
    assert isinstance(out['failure'].get(timeout=20), MemoryError)
    assert worker.recogniser.cameras['front'].counts['failed'] == 1
    for slot in range(1, 5):
        worker.queue.put(frame(slot))
    assert out['hypothesis'].get(timeout=20).stamp_ns == 1 + 4 * PERIOD_NS
    status = model_status('/perception', worker, model_id='tiny@1', device='cpu')
    assert status.message == '1 failures of the model'


def test_stopping_twice_is_fine(running):
    worker, _ = running
    worker.stop()
    worker.stop()
    worker.queue.put(frame(0))


def test_a_camera_that_never_spoke_is_a_warning(running):
    worker, _ = running
    assert (
        camera_status('/perception', 'rear', worker, frames=4).message == 'no frame received yet'
    )


def test_a_prepared_camera_that_never_spoke_is_a_warning_too(running):
    worker, _ = running
    worker.recogniser.prepare('rear')
    assert (
        camera_status('/perception', 'rear', worker, frames=4).message == 'no frame received yet'
    )


def test_the_model_says_how_its_heads_run_and_what_they_keep(running):
    worker, _ = running
    cache = worker.recogniser.prepare('rear').cache
    values = {
        value.key: value.value
        for value in model_status('/perception', worker, model_id='tiny@1', device='cpu').values
    }
    assert values['heads'] == 'streaming'
    assert values['exponentials_kept'] == cache.kept
    assert int(values['bytes_per_camera_and_task']) == cache.bytes_per_task > 0
