# SPDX-License-Identifier: Apache-2.0
"""Diagnostics: frame counts that add up, and overload."""

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
    """A worker without its thread, run batch by batch, and its diagnostics."""

    def __init__(self, bundle):
        self.problems, self.warnings = {}, []
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
            problem=lambda camera: self.problems.get(camera, ''),
            newest_ns={'front': 1 + PERIOD_NS}.get,
            is_active=lambda camera: True,
            warn=self.warnings.append,
        )

    def put(self, slot, *, camera='front', load=lambda: np.full((32, 48, 3), 90, np.uint8)):
        stamp_ns = 1 + int(slot * PERIOD_NS)
        self.worker.put_frame(
            Frame(camera=camera, stamp_ns=stamp_ns, received_ns=time.monotonic_ns(), load=load)
        )

    def process_all(self):
        while (batch := self.worker.queue.next_batch(wait=False)) is not None:
            self.worker.recognise_batch(batch)

    def statuses(self):
        front, rear, model = self._diagnostics.statuses(now_ns=1 + 3 * PERIOD_NS)
        return front, rear, model


@pytest.fixture
def watched(tiny_bundle):
    return Watched(tiny_bundle)


def values(status):
    return {value.key: value.value for value in status.values}


def test_camera_without_a_frame_is_a_warning(watched):
    watched.put(0)
    front, rear, _ = watched.statuses()
    assert (rear.level, rear.message) == (WARN, 'no frame received yet')
    assert (front.level, front.message) == (OK, 'window 0/4')


def test_frame_counts_add_up(watched):
    def unreadable():
        raise FrameError('undecodable', 'not a JPEG')

    for slot in (0, 0.3, 1, 1, 2.2, 1.9, 3, 3.5, -0.5):
        watched.put(slot)
    watched.process_all()
    watched.put(4, load=unreadable)
    watched.worker.refuse('front', FrameError('malformed', 'it ends within data'))
    for slot in (5, 5.5, 6):
        watched.put(slot)
    about = values(watched.statuses()[0])
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


def test_loss_warns_once_and_stays_in_the_message(watched):
    for slot in (0, 1, 2, 3, 0.4):
        watched.put(slot)
    watched.process_all()
    first = watched.statuses()[0]
    watched.put(3.5)  # off the grid: no new loss
    again = watched.statuses()[0]
    assert first.message == again.message == 'window 4/4; lost: late 1'
    assert (first.level, again.level) == (WARN, OK)


def test_model_status_gives_cost_and_interval(watched):
    for slot in range(8):
        watched.put(slot)
        watched.process_all()
    found = values(watched.statuses()[2])
    assert found['model_id'] == 'tiny@1'
    cost, interval = float(found['needs_ms']), float(found['has_ms'])
    assert cost == pytest.approx(float(found['encode_ms']) + float(found['decide_ms']), abs=0.02)
    assert int(found['headroom_percent']) == pytest.approx(100 * (1 - cost / interval), abs=3)
    assert 0 < float(found['frame_ms_median']) <= float(found['frame_ms_p95'])
    assert found['cameras_served'] == '2'


def test_overload_is_a_warning_and_passes(watched):
    timing = watched.worker.recogniser.timing
    for _ in range(5):
        timing.add_batch(frames=1, encode_ns=900_000_000, windows=1, predict_ns=0)
    for slot in range(20):  # far more than the queue holds
        watched.put(slot)
    front, _, model = watched.statuses()
    assert model.level == WARN
    assert model.message.startswith('overloaded: a grid frame costs 900.0 ms, one arrives every ')
    assert values(model)['state'] == 'overloaded'
    assert front.level == WARN
    assert front.message == 'paused by load shedding; lost: overload_dropped 14'
    watched.process_all()
    # Without new frames there is no overload; no real time has to pass.
    assert not watched.worker.queue.overloaded(time.monotonic_ns() + 100 * PERIOD_NS)
    watched.put(20)
    front, _, _ = watched.statuses()
    assert (front.level, front.message) == (OK, 'window 4/4; lost: overload_dropped 14')


def test_failure_is_an_error_once_and_stays_in_the_message(watched, monkeypatch):
    def broken(images):
        raise MemoryError('out of memory')

    monkeypatch.setattr(watched.worker.recogniser.encoder, 'encode', broken)
    watched.put(0)
    watched.process_all()
    first, again = watched.statuses()[2], watched.statuses()[2]
    assert first.message.startswith('the model failed on 1 batches; a grid frame costs ')
    assert (first.level, again.level) == (ERROR, OK)
    assert values(watched.statuses()[0])['failed'] == '1'


def test_model_status_gives_head_mode_and_memory(watched):
    cache = watched.worker.recogniser.prepare('rear').cache
    found = values(watched.statuses()[2])
    assert found['heads'] == 'streaming'
    assert found['exponentials_kept'] == cache.kept
    assert int(found['bytes_per_camera_and_task']) == cache.bytes_per_task > 0


def test_silent_camera_is_a_warning_with_the_reason(watched):
    watched.problems['rear'] = 'no publisher on topic /rear/image_raw'
    watched.put(0)
    front, rear, _ = watched.statuses()
    assert values(front)['rate_hz'] == 'none yet'
    assert rear.message == 'no frame received yet: no publisher on topic /rear/image_raw'
    watched.problems['front'] = 'no publisher on topic /front/image_raw'
    watched.process_all()
    silent = watched.statuses()[0]
    assert silent.level == DiagnosticStatus.WARN
    assert silent.message.startswith('no frame since the last message: no publisher on topic /fr')
    watched.put(1)
    watched.process_all()
    assert float(values(watched.statuses()[0])['rate_hz']) > 0


def test_node_status_gives_the_error():
    healthy = node_status('/perception', 'active', error='')
    assert (healthy.level, healthy.message) == (DiagnosticStatus.OK, 'active')
    down = node_status('/perception', 'unconfigured', error='the worker stopped with OSError: no')
    assert down.level == DiagnosticStatus.ERROR
    reason = 'the worker stopped with OSError: no; configure and activate the node again'
    assert down.message == reason


# Slow cameras: max_gap is 2.5 frame periods of 0.1 s.


def test_camera_too_slow_for_max_gap_warns_with_both_numbers(watched):
    for index in range(8):
        watched.put(4 * index)
        watched.process_all()
        status = watched.statuses()[0]
    assert status.level == WARN
    for words in ('images are 0.4 s apart', 'max_gap (0.25 s)', 'raise the rate'):
        assert words in status.message
    (logged,) = watched.warnings
    assert logged.startswith('camera front: too slow: images are 0.4 s apart')


def test_gaps_that_come_before_the_window_is_full_warn_too(watched):
    slots = [slot for pair in range(5) for slot in (5 * pair, 5 * pair + 2)]
    for slot in slots:
        watched.put(slot)
        watched.process_all()
        status = watched.statuses()[0]
    assert 'images are 0.3 s apart' in status.message
    assert status.level == WARN


def test_camera_that_recovers_is_not_too_slow_any_more(watched):
    for slot in (0, 4, 8, 12, *range(13, 13 + FRAMES)):
        watched.put(slot)
        watched.process_all()
        watched.statuses()[0]
    assert 'too slow' not in watched.statuses()[0].message
    assert len(watched.warnings) == 1


def test_single_gaps_between_full_windows_do_not_warn(watched):
    for window in range(4):
        for index in range(FRAMES):
            watched.put(10 * window + index)
            watched.process_all()
            assert 'too slow' not in watched.statuses()[0].message
    assert watched.warnings == []
