"""Whether one hypothesis of a camera goes on where the last one was."""

from step_ros.stream.hypothesis import Hypothesis


class Continuity:
    """Remembers the last hypothesis of each camera, and notices where the stream broke off.

    It did where time jumped back, and where the window was begun anew: then its oldest frame is
    newer than all that was seen before. A window of one frame never reaches back, so that a time
    no longer than `max_gap_ns` goes on as well.

    Args:
        max_gap_ns: Longest time between two grid frames of one window, as the recogniser has it.
    """

    def __init__(self, max_gap_ns: int) -> None:
        self._max_gap_ns = max_gap_ns
        self._last_ns: dict[str, int] = {}

    def take(self, hypothesis: Hypothesis) -> bool:
        """Take note of a hypothesis; say whether it follows on the last one of its camera."""
        last_ns = self._last_ns.get(hypothesis.camera)
        self._last_ns[hypothesis.camera] = hypothesis.stamp_ns
        if last_ns is None:
            return False
        passed_ns = hypothesis.stamp_ns - last_ns
        reaches_back = hypothesis.window_start_ns <= last_ns
        return passed_ns >= 0 and (reaches_back or passed_ns <= self._max_gap_ns)

    def forget(self, camera: str) -> None:
        """Let the next hypothesis of a camera be its first."""
        self._last_ns.pop(camera, None)
