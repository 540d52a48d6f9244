"""Warnings that say the same thing again and again, said now and then with a count."""

import time
from collections import Counter
from collections.abc import Callable


class RepeatedWarnings:
    """Says a warning at once, then at most every few seconds with how often it came since.

    Args:
        warn: Takes a line of text, for example a logger's `warning`.
        period: Shortest time in seconds between two warnings with the same key.
        clock: Gives seconds.
    """

    def __init__(
        self,
        warn: Callable[[str], object],
        *,
        period: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warn, self._period, self._clock = warn, period, clock
        self._last: dict[tuple[str, str], float] = {}
        self._since: Counter[tuple[str, str]] = Counter()

    def add(self, camera: str, cause: str, detail: str) -> None:
        """Take a warning about a camera."""
        key = (camera, cause)
        now = self._clock()
        self._since[key] += 1
        if key in self._last and now - self._last[key] < self._period:
            return
        times = self._since.pop(key)
        again = f' ({times} times since the last warning)' if times > 1 else ''
        self._warn(f'camera {camera}: frame dropped, {cause}: {detail}{again}')
        self._last[key] = now
