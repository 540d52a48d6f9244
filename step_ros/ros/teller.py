"""The thread that says what the worker found, while the worker looks at the next frames."""

import threading
from collections.abc import Callable
from queue import Queue

# Turns of the worker that may wait to be told; then it waits, too, and frames are left out.
WAITING = 8


class Teller:
    """Does what it is told, in order, in a thread of its own.

    Messages are made and sent in Python, which the worker's compiled passes leave free.

    Args:
        on_crash: Called in this thread when a job raises; what comes later is not done.
    """

    def __init__(self, *, on_crash: Callable[[Exception], None]) -> None:
        self._on_crash = on_crash
        self._jobs: Queue[Callable[[], None] | None] = Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name='step_ros teller', daemon=True)
        self._thread.start()

    def post(self, job: Callable[[], None]) -> None:
        """Let something be done; waits where too much waits already."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Do what waits, and end; nothing may be posted afterwards."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                job()
        except Exception as error:  # nobody would notice a thread that ends
            self._on_crash(error)
            # Whoever posts until all is stopped must not wait for ever.
            while self._jobs.get() is not None:
                pass
