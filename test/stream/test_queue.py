"""The queue: bounded, never blocking the cameras, always in order."""

import threading

import pytest

from step_ros.stream.frame import Frame
from step_ros.stream.queue import FrameQueue

PATIENCE = 30.0  # seconds after which a thread is taken to hang


def frame(stamp_ns, camera='front'):
    return Frame(camera=camera, stamp_ns=stamp_ns, load=lambda: None)


def stamps(frames, camera='front'):
    return [each.stamp_ns for each in frames if each.camera == camera]


def test_all_that_waits_is_taken_in_order():
    queue = FrameQueue(10)
    for stamp in (3, 1, 2):
        queue.put(frame(stamp))
    assert stamps(queue.take()) == [3, 1, 2]
    queue.put(frame(4))
    assert stamps(queue.take()) == [4]
    assert not queue.dropped


@pytest.mark.parametrize('capacity', [1, 3])
def test_when_full_the_oldest_is_dropped_and_counted(capacity):
    queue = FrameQueue(capacity)
    for stamp in range(1, 8):
        queue.put(frame(stamp))
        assert queue.dropped['front'] == max(0, stamp - capacity)
    assert stamps(queue.take()) == list(range(8 - capacity, 8))
    # Taking makes room.
    queue.put(frame(8))
    assert queue.dropped['front'] == 7 - capacity


def test_a_fast_camera_does_not_push_out_another():
    queue = FrameQueue(2)
    queue.put(frame(1, 'side'))
    for stamp in range(1, 6):
        queue.put(frame(stamp))
    taken = queue.take()
    assert stamps(taken, 'side') == [1]
    assert stamps(taken, 'front') == [4, 5]
    assert len(taken) == 3
    assert queue.dropped == {'front': 3}


def test_taking_waits_for_a_frame():
    queue, taken = FrameQueue(2), []
    taker = threading.Thread(target=lambda: taken.extend(queue.take()), daemon=True)
    taker.start()
    assert taken == []
    queue.put(frame(1))
    taker.join(PATIENCE)
    assert not taker.is_alive()
    assert stamps(taken) == [1]


def test_closing_wakes_a_waiting_taker():
    queue, taken, waiting = FrameQueue(2), [], threading.Event()

    def take():
        waiting.set()
        taken.append(queue.take())

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    assert waiting.wait(PATIENCE)
    assert taker.is_alive()
    queue.close()
    taker.join(PATIENCE)
    assert not taker.is_alive()
    assert taken == [[]]


def test_a_closed_queue_is_empty_and_takes_no_more():
    queue = FrameQueue(2)
    queue.put(frame(1))
    queue.close()
    for stamp in range(2, 9):
        queue.put(frame(stamp))
    assert queue.take() == []
    assert queue.take() == []
    queue.close()
    assert not queue.dropped


@pytest.mark.parametrize('capacity', [4, 100_000])
def test_threads_lose_nothing_but_what_is_counted(capacity):
    queue, taken = FrameQueue(capacity), []
    cameras, count = ('front', 'side', 'wrist'), 2000

    def film(camera):
        for stamp in range(1, count + 1):
            queue.put(frame(stamp, camera))

    def work():
        while frames := queue.take():
            taken.extend(frames)
            dropped = sum(queue.dropped[camera] for camera in cameras)
            if dropped + len(taken) == count * len(cameras):
                return

    worker = threading.Thread(target=work, daemon=True)
    threads = [threading.Thread(target=film, args=(camera,), daemon=True) for camera in cameras]
    for thread in (worker, *threads):
        thread.start()
    for thread in (*threads, worker):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    for camera in cameras:
        seen = stamps(taken, camera)
        assert seen == sorted(set(seen))  # each at most once, in order
        assert len(seen) + queue.dropped[camera] == count
        assert seen[-1] == count  # the newest is never dropped
    if capacity > count:
        assert not queue.dropped


@pytest.mark.parametrize('capacity', [0, -1])
def test_a_queue_without_room_is_refused(capacity):
    with pytest.raises(ValueError, match='capacity'):
        FrameQueue(capacity)
