# SPDX-License-Identifier: Apache-2.0
"""The frame queue: grid frames in order, cameras never blocked, every frame accounted for."""

import threading

import numpy as np
import pytest

from step_ros.images.errors import FrameError
from step_ros.streaming.camera_state import CameraState, frames_used
from step_ros.streaming.frame import Frame
from step_ros.streaming.frame_queue import FrameQueue
from step_ros.streaming.grid import GridSettings, Placement
from step_ros.streaming.timing import FrameTiming

PATIENCE = 30.0  # seconds after which a thread counts as hanging
PERIOD = 100
FRAMES = 4
START = 1_000_000
IMAGE = np.zeros((1, 1, 3), np.uint8)


class Cameras(dict):
    """The states of cameras, each made on first access."""

    def __missing__(self, name):
        self[name] = CameraState(
            FRAMES, GridSettings(frame_period_ns=PERIOD, max_gap_ns=250, order_tolerance_ns=50)
        )
        return self[name]


@pytest.fixture
def cameras():
    return Cameras()


@pytest.fixture
def queue(cameras):
    return make_queue(cameras)


def make_queue(cameras, capacity=8):
    return FrameQueue(
        cameras.__getitem__,
        capacity=capacity,
        frames=FRAMES,
        frame_period_ns=PERIOD,
        timing=FrameTiming(),
    )


def frame(slot, camera='front', *, late=0, load=lambda: IMAGE):
    stamp_ns = START + int(slot * PERIOD)
    return Frame(camera=camera, stamp_ns=stamp_ns, received_ns=stamp_ns + late, load=load)


def take_all(queue):
    """Take batch after batch; return the frames."""
    frames = []
    while (batch := queue.next_batch(wait=False)) is not None:
        frames += batch.frames
    return frames


def slots(frames, camera='front'):
    return [each.slot for each in frames if each.camera == camera]


def test_grid_frames_come_out_loaded_and_in_order(queue):
    for slot in range(3):
        queue.enqueue(frame(slot))
    taken = take_all(queue)
    assert slots(taken) == [0, 1, 2]
    assert [each.placement for each in taken] == [Placement.START, Placement.NEW, Placement.NEW]
    assert all(each.image_hw3 is IMAGE for each in taken)
    queue.enqueue(frame(3))
    assert slots(take_all(queue)) == [3]


def test_frame_off_the_grid_is_only_counted(queue):
    loaded = []
    for slot in (0, 0.2, 0.5, 0.8, 1, 1.4):
        queue.enqueue(frame(slot, load=lambda slot=slot: loaded.append(slot) or IMAGE))
    assert loaded == [0, 1]
    assert slots(take_all(queue)) == [0, 1]
    counts = queue.counts('front')
    assert (counts['received'], counts['off_grid']) == (6, 4)


def test_late_frame_fills_its_slot(queue):
    for slot in (0, 1, 2.2, 1.9):
        queue.enqueue(frame(slot))
    taken = take_all(queue)
    assert slots(taken) == [0, 1, 2, 2]
    assert taken[-1].placement is Placement.REORDERED


def test_unreadable_frame_leaves_its_slot_to_the_next(queue):
    def unreadable():
        raise FrameError('undecodable', 'no image')

    queue.enqueue(frame(0))
    with pytest.raises(FrameError):
        queue.enqueue(frame(1, load=unreadable))
    queue.enqueue(frame(1.3))
    assert slots(take_all(queue)) == [0, 1]
    counts = queue.counts('front')
    assert (counts['received'], counts['undecodable'], counts['waiting']) == (3, 1, 2)


def test_batch_has_one_frame_of_every_camera(queue):
    for slot in range(3):
        queue.enqueue(frame(slot))
    queue.enqueue(frame(0, 'side'))
    # Until the cost of a frame is known, a batch has one frame of each camera.
    first = queue.next_batch(wait=False).frames
    assert sorted(each.camera for each in first) == ['front', 'side']
    assert slots(queue.next_batch(wait=False).frames) == [1]


def test_batch_fits_one_frame_period(cameras):
    timing = FrameTiming()
    queue = FrameQueue(
        cameras.__getitem__, capacity=20, frames=FRAMES, frame_period_ns=PERIOD, timing=timing
    )
    timing.add_batch(frames=1, encode_ns=PERIOD // 5, windows=0, predict_ns=0)
    for slot in range(12):
        queue.enqueue(frame(slot))
    assert [len(queue.next_batch(wait=False).frames) for _ in range(3)] == [5, 5, 2]


def test_taken_frame_counts_as_waiting_until_used(queue, cameras):
    for slot in range(3):
        queue.enqueue(frame(slot))
    (first,) = queue.next_batch(wait=False).frames
    assert queue.counts('front')['waiting'] == 3
    cameras['front'].counts[first.placement.value] += 1
    assert queue.counts('front')['waiting'] == 2


def test_restart_drops_the_backlog_and_restarts_windows(queue, cameras):
    for camera in ('front', 'side'):
        for slot in range(3):
            queue.enqueue(frame(slot, camera))
    batch = queue.next_batch(wait=False).frames
    for each in batch:
        cameras[each.camera].counts['failed'] += 1
    queue.restart()
    assert queue.next_batch(wait=False) is None
    queue.enqueue(frame(3))
    queue.enqueue(frame(4))
    taken = take_all(queue)
    assert [(each.placement, each.slot) for each in taken] == [
        (Placement.START, 0),
        (Placement.NEW, 1),
    ]
    counts = queue.counts('front')
    assert (counts['failed'], counts['restart_dropped'], counts['waiting']) == (1, 2, 2)
    assert counts['received'] == 5


def test_restart_drops_a_frame_that_is_loading(queue):
    queue.enqueue(frame(0))
    queue.enqueue(frame(1, load=lambda: queue.restart() or IMAGE))
    assert queue.next_batch(wait=False) is None
    counts = queue.counts('front')
    assert (counts['received'], counts['restart_dropped'], counts['waiting']) == (2, 2, 0)
    queue.enqueue(frame(2))
    assert [each.placement for each in take_all(queue)] == [Placement.START]


def test_next_batch_waits_for_a_frame(queue):
    taken = []
    worker = threading.Thread(target=lambda: taken.append(queue.next_batch()), daemon=True)
    worker.start()
    assert taken == []
    queue.enqueue(frame(0))
    worker.join(PATIENCE)
    assert not worker.is_alive()
    assert slots(taken[0].frames) == [0]


def test_close_wakes_a_waiting_worker(queue):
    taken, waiting = [], threading.Event()

    def take():
        waiting.set()
        taken.append(queue.next_batch())

    worker = threading.Thread(target=take, daemon=True)
    worker.start()
    assert waiting.wait(PATIENCE)
    queue.close()
    worker.join(PATIENCE)
    assert not worker.is_alive()
    assert taken == [None]


def test_closed_queue_is_empty_and_accepts_no_frame(queue):
    queue.enqueue(frame(0))
    queue.close()
    queue.enqueue(frame(1))
    assert queue.next_batch() is None
    queue.close()
    assert queue.counts('front')['received'] == 1


@pytest.mark.parametrize('capacity', [4, 5000])
def test_two_threads_account_for_every_frame(cameras, capacity):
    queue, names, count = make_queue(cameras, capacity), ('front', 'side', 'wrist'), 1500
    taken, all_enqueued = [], threading.Event()

    def work():
        while not all_enqueued.is_set():
            while (batch := queue.next_batch(wait=False)) is not None:
                for each in batch.frames:
                    cameras[each.camera].counts[each.placement.value] += 1
                taken.extend(batch.frames)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    for slot in range(count):
        for name in names:
            queue.enqueue(frame(slot, name))
            queue.enqueue(frame(slot + 0.5, name))
    all_enqueued.set()
    worker.join(PATIENCE)
    assert not worker.is_alive()
    for name in names:
        counts = queue.counts(name)
        used = frames_used(counts)
        assert used == len(slots(taken, name))
        accounted = used + counts['off_grid'] + counts['waiting']
        assert accounted + counts.get('overload_dropped', 0) == counts['received'] == 2 * count
        assert (capacity > count) <= (not counts.get('overload_dropped'))
        stamps = [each.stamp_ns for each in taken if each.camera == name]
        assert stamps == sorted(set(stamps))


@pytest.mark.parametrize('capacity', [0, -1])
def test_capacity_below_one_is_refused(cameras, capacity):
    with pytest.raises(ValueError, match='capacity'):
        make_queue(cameras, capacity)
