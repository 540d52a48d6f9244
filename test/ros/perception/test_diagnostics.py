"""What the node says about itself: counts that add up, and whether the machine keeps up."""

import time

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus

from step_ros.encoders.base import TorchEncoder
from step_ros.images.errors import FrameError
from step_ros.ros.perception.diagnostics import NO_FRAMES, PLACEMENTS, Diagnostics, node_status
from step_ros.streaming.frame import Frame
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.streaming.worker import Worker

PERIOD_NS = 100_000_000
FRAMES = 4
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Watched:
    """A worker without its thread, stepped by hand, and what is said of it."""

    def __init__(self, bundle):
        self.troubles = {}
        encoder = TorchEncoder(bundle.model.backbone, device=torch.device('cpu'))
        self.worker = Worker(
            StreamingRecogniser(bundle, encoder),
            queue_size=6,
            on_batch=lambda frames, hypotheses: None,
            on_problem=lambda problem: None,
            on_failure=lambda error: None,
            on_crash=lambda error: None,
        )
        self._diagnostics = Diagnostics(
            '/perception',
            self.worker,
            cameras=['front', 'rear'],
            frames=FRAMES,
            about={'model_id': 'tiny@1', 'device': 'cpu'},
            problem=lambda camera: self.troubles.get(camera, ''),
            newest_ns={'front': 1 + PERIOD_NS}.get,
            is_active=lambda camera: True,
        )

    def put(self, slot, *, camera='front', load=lambda: np.full((32, 48, 3), 90, np.uint8)):
        stamp_ns = 1 + int(slot * PERIOD_NS)
        self.worker.put_frame(
            Frame(camera=camera, stamp_ns=stamp_ns, received_ns=time.monotonic_ns(), load=load)
        )

    def work(self):
        while (batch := self.worker.queue.next_batch(wait=False)) is not None:
            self.worker.recognise_batch(batch)

    def say(self):
        front, rear, model = self._diagnostics.statuses(now_ns=1 + 3 * PERIOD_NS)
        return front, rear, model


@pytest.fixture
def watched(tiny_bundle):
    return Watched(tiny_bundle)


def values(status):
    return {value.key: value.value for value in status.values}


def test_a_camera_that_never_spoke_is_a_warning(watched):
    watched.put(0)
    front, rear, _ = watched.say()
    assert (rear.level, rear.message) == (WARN, 'no frame received yet')
    assert (front.level, front.message) == (OK, 'window 0/4')


def test_every_frame_is_accounted_for(watched):
    def unreadable():
        raise FrameError('undecodable', 'not a JPEG')

    for slot in (0, 0.3, 1, 1, 2.2, 1.9, 3, 3.5, -0.5):
        watched.put(slot)
    watched.work()
    watched.put(4, load=unreadable)
    watched.worker.refuse('front', FrameError('malformed', 'it ends within data'))
    for slot in (5, 5.5, 6):
        watched.put(slot)
    about = values(watched.say()[0])
    counts = {key: int(value) for key, value in about.items() if value.isdigit()}
    assert counts.pop('stamp_age_ms') == 2 * PERIOD_NS // 10**6
    assert counts['received'] == 14
    assert counts['waiting'] == 2
    assert counts['used'] == sum(counts[key] for key in PLACEMENTS & counts.keys())
    apart = {'received', 'used', 'waiting', 'off_grid'} | NO_FRAMES | PLACEMENTS
    dropped = {key: count for key, count in counts.items() if key not in apart}
    assert set(dropped) == {'duplicate', 'late', 'zero_stamp', 'undecodable', 'malformed'}
    assert counts['received'] == (
        counts['used'] + counts['off_grid'] + counts['waiting'] + sum(dropped.values())
    )


def test_a_loss_is_a_warning_once_and_stays_in_the_words(watched):
    for slot in (0, 1, 2, 3, 0.4):
        watched.put(slot)
    watched.work()
    first = watched.say()[0]
    watched.put(3.5)  # off the grid, and so nothing new but a frame
    again = watched.say()[0]
    assert first.message == again.message == 'window 4/4; lost: late 1'
    assert (first.level, again.level) == (WARN, OK)


def test_the_model_says_what_a_frame_needs_and_has(watched):
    for slot in range(8):
        watched.put(slot)
        watched.work()
    said = values(watched.say()[2])
    assert said['model_id'] == 'tiny@1'
    needs, has = float(said['needs_ms']), float(said['has_ms'])
    assert needs == pytest.approx(float(said['encode_ms']) + float(said['decide_ms']), abs=0.02)
    assert int(said['headroom_percent']) == pytest.approx(100 * (1 - needs / has), abs=3)
    assert 0 < float(said['frame_ms_median']) <= float(said['frame_ms_p95'])
    assert said['cameras_served'] == '2'


def test_overload_is_a_warning_in_words_and_passes(watched):
    timing = watched.worker.recogniser.timing
    for _ in range(5):
        timing.add_batch(frames=1, encode_ns=900_000_000, windows=1, predict_ns=0)
    for slot in range(20):  # far more than may wait
        watched.put(slot)
    front, _, model = watched.say()
    assert model.level == WARN
    assert model.message.startswith('overloaded: a grid frame costs 900.0 ms, one arrives every ')
    assert values(model)['state'] == 'overloaded'
    assert front.level == WARN
    assert front.message == 'paused by load shedding; lost: overload_dropped 14'
    watched.work()
    # Where nothing comes any more, nothing is left out; no clock is waited for.
    assert not watched.worker.queue.overloaded(time.monotonic_ns() + 100 * PERIOD_NS)
    watched.put(20)
    front, _, _ = watched.say()
    assert (front.level, front.message) == (OK, 'window 4/4; lost: overload_dropped 14')


def test_failures_are_an_error_once_and_stay_in_the_words(watched, monkeypatch):
    def broken(images):
        raise MemoryError('out of memory')

    monkeypatch.setattr(watched.worker.recogniser.encoder, 'encode', broken)
    watched.put(0)
    watched.work()
    first, again = watched.say()[2], watched.say()[2]
    assert first.message.startswith('the model failed on 1 batches; a grid frame costs ')
    assert (first.level, again.level) == (ERROR, OK)
    assert values(watched.say()[0])['failed'] == '1'


def test_the_model_says_how_its_heads_run_and_what_they_keep(watched):
    cache = watched.worker.recogniser.prepare('rear').cache
    said = values(watched.say()[2])
    assert said['heads'] == 'streaming'
    assert said['exponentials_kept'] == cache.kept
    assert int(said['bytes_per_camera_and_task']) == cache.bytes_per_task > 0


def test_a_silent_camera_is_a_warning_with_the_reason(watched):
    watched.troubles['rear'] = 'no publisher on topic /rear/image_raw'
    watched.put(0)
    front, rear, _ = watched.say()
    assert values(front)['rate_hz'] == 'none yet'
    assert rear.message == 'no frame received yet: no publisher on topic /rear/image_raw'
    watched.troubles['front'] = 'no publisher on topic /front/image_raw'
    watched.work()
    silent = watched.say()[0]
    assert silent.level == DiagnosticStatus.WARN
    assert silent.message.startswith('no frame since the last message: no publisher on topic /fr')
    watched.put(1)
    watched.work()
    assert float(values(watched.say()[0])['rate_hz']) > 0


def test_the_node_tells_what_has_brought_it_down():
    sound = node_status('/perception', 'active', error='')
    assert (sound.level, sound.message) == (DiagnosticStatus.OK, 'active')
    down = node_status('/perception', 'unconfigured', error='the worker stopped with OSError: no')
    assert down.level == DiagnosticStatus.ERROR
    reason = 'the worker stopped with OSError: no; configure and activate the node again'
    assert down.message == reason
