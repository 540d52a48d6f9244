"""Which cameras have fallen silent."""

from collections.abc import Callable, Sequence

from step_ros.streaming.postprocessing.fusion import FUSED


class StaleCameraDetector:
    """Looks at how many frames cameras have sent, now and then.

    Args:
        cameras: Names of the cameras.
        received: Tells how many frames a camera has sent.
        timeout_ns: How long without a frame until a camera is lost; 0: never.
    """

    def __init__(
        self, cameras: Sequence[str], *, received: Callable[[str], int], timeout_ns: int
    ) -> None:
        self.timeout_ns = timeout_ns
        self._cameras = tuple(cameras)
        self._received = received
        self._seen: dict[str, tuple[int, int]] = {}

    def lost(self, now_ns: int) -> frozenset[str]:
        """Return the cameras that are lost; the fused view is when all of them are.

        Args:
            now_ns: The time by one clock, the same at each call.
        """
        if not self.timeout_ns:
            return frozenset()
        lost = set()
        for camera in self._cameras:
            count = self._received(camera)
            before, since_ns = self._seen.get(camera, (-1, now_ns))
            # A clock that jumps back is that of a bag or a simulation that begins anew.
            if count != before or now_ns < since_ns:
                self._seen[camera] = (count, now_ns)
            elif now_ns - since_ns >= self.timeout_ns:
                lost.add(camera)
        return frozenset(lost | {FUSED} if lost == set(self._cameras) else lost)
