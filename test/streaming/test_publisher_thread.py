"""The teller: what it is given is done in order, beside the worker, and its end is told."""

import threading

from step_ros.streaming.worker import MAX_WAITING_JOBS, PublisherThread


def test_jobs_are_done_in_order_and_all_before_it_ends():
    done, first = [], threading.Event()
    teller = PublisherThread(on_crash=done.append)
    teller.post(first.wait)
    for number in range(MAX_WAITING_JOBS):
        teller.post(lambda number=number: done.append(number))
    assert done == []  # whoever posts does not wait for what is done
    first.set()
    teller.stop()
    assert done == list(range(MAX_WAITING_JOBS))


def test_too_much_that_waits_makes_the_worker_wait():
    first, posted = threading.Event(), threading.Semaphore(0)
    teller = PublisherThread(on_crash=print)

    def post():
        for _ in range(MAX_WAITING_JOBS + 3):
            teller.post(first.wait)
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
    teller.stop()


def test_what_ends_it_is_told_and_keeps_nobody_waiting():
    crashes, done = [], []
    teller = PublisherThread(on_crash=crashes.append)
    teller.post(lambda: 1 / 0)
    for _ in range(3 * MAX_WAITING_JOBS):
        teller.post(lambda: done.append(1))
    teller.stop()
    assert [type(error) for error in crashes] == [ZeroDivisionError]
    assert done == []
