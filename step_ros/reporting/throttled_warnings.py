# SPDX-License-Identifier: Apache-2.0
"""Log repeated warnings only now and then, with their count."""

import time
from collections import Counter
from collections.abc import Callable


class RepeatedWarnings:
    """Log a warning at once, then at most once per period with the number of repetitions.

    Args:
        warn: Logs a line of text, for example a logger's `warning`.
        period: Minimal time between two warnings of the same camera and cause, in seconds.
        clock: Returns the time in seconds.
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
        """Add a warning about a dropped frame.

        Args:
            camera: Name of the camera.
            cause: Short cause; warnings of one cause are counted together.
            detail: Description of this case.
        """
        key = (camera, cause)
        now = self._clock()
        self._since[key] += 1
        if key in self._last and now - self._last[key] < self._period:
            return
        times = self._since.pop(key)
        again = f' ({times} times since the last warning)' if times > 1 else ''
        self._warn(f'camera {camera}: frame dropped, {cause}: {detail}{again}')
        self._last[key] = now
