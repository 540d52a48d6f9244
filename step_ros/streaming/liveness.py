# SPDX-License-Identifier: Apache-2.0
"""Which cameras no longer send frames."""

from collections.abc import Callable, Sequence

from step_ros.streaming.postprocessing.fusion import FUSED


class StaleCameraDetector:
    """Compares how many frames the cameras have sent from call to call.

    Args:
        cameras: Names of the cameras.
        received: Returns how many frames a camera has sent.
        timeout_ns: Time without a frame after which a camera is lost; 0 for never.
    """

    def __init__(
        self, cameras: Sequence[str], *, received: Callable[[str], int], timeout_ns: int
    ) -> None:
        self.timeout_ns = timeout_ns
        self._cameras = tuple(cameras)
        self._received = received
        self._seen: dict[str, tuple[int, int]] = {}

    def lost(self, now_ns: int) -> frozenset[str]:
        """Return the lost cameras, with the fused view if all of them are lost.

        Args:
            now_ns: The time, by the same clock at each call.
        """
        if not self.timeout_ns:
            return frozenset()
        lost = set()
        for camera in self._cameras:
            count = self._received(camera)
            before, since_ns = self._seen.get(camera, (-1, now_ns))
            # The clock jumped back: a looped bag or a restarted simulation.
            if count != before or now_ns < since_ns:
                self._seen[camera] = (count, now_ns)
            elif now_ns - since_ns >= self.timeout_ns:
                lost.add(camera)
        return frozenset(lost | {FUSED} if lost == set(self._cameras) else lost)
