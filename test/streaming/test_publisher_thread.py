# SPDX-License-Identifier: Apache-2.0
"""The publisher thread: jobs run in order, the queue is bounded, crashes are reported."""

import threading

from step_ros.streaming.worker import MAX_WAITING_JOBS, PublisherThread


def test_jobs_run_in_order_and_before_stop_returns():
    done, first = [], threading.Event()
    publisher = PublisherThread(on_crash=done.append)
    publisher.post(first.wait)
    for number in range(MAX_WAITING_JOBS):
        publisher.post(lambda number=number: done.append(number))
    assert done == []  # post does not wait for the job
    first.set()
    publisher.stop()
    assert done == list(range(MAX_WAITING_JOBS))


def test_post_blocks_while_too_many_jobs_wait():
    first, posted = threading.Event(), threading.Semaphore(0)
    publisher = PublisherThread(on_crash=print)

    def post():
        for _ in range(MAX_WAITING_JOBS + 3):
            publisher.post(first.wait)
            posted.release()

    poster = threading.Thread(target=post)
    poster.start()
    for _ in range(MAX_WAITING_JOBS):
        assert posted.acquire(timeout=20)
    poster.join(timeout=0.2)
    assert poster.is_alive()
    first.set()
    poster.join(timeout=20)
    assert not poster.is_alive()
    publisher.stop()


def test_crash_is_reported_and_post_does_not_block():
    crashes, done = [], []
    publisher = PublisherThread(on_crash=crashes.append)
    publisher.post(lambda: 1 / 0)
    for _ in range(3 * MAX_WAITING_JOBS):
        publisher.post(lambda: done.append(1))
    publisher.stop()
    assert [type(error) for error in crashes] == [ZeroDivisionError]
    assert done == []
