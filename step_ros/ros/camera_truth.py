"""What really happens in front of the synthetic camera, as events."""

from rclpy.time import Time

from step_ros.data.tabletop import Segment
from step_ros.msg import ActionEvent
from step_ros.ros.camera_sources import NANOSECONDS


class TruthTrack:
    """Turns the segments of successive frames into START and END events.

    Args:
        camera: Name of the camera.
        frame_id: Its coordinate frame.
    """

    def __init__(self, *, camera: str, frame_id: str) -> None:
        self._camera, self._frame_id = camera, frame_id
        self._current: Segment | None = None

    def restart(self) -> None:
        """Forget what is going on: its end will never be seen."""
        self._current = None

    def events(self, segment: Segment | None, *, zero_ns: int) -> list[ActionEvent]:
        """Give the events that a frame brings.

        Args:
            segment: What is going on in the frame.
            zero_ns: Stamp of stream time zero in nanoseconds.

        Returns:
            For each task the END of the segment before and the START of this one; nothing while
            the segment goes on. Their stamps are the exact times, not those of frames.
        """
        before = self._current
        if before is not None and segment is not None and before.start_s == segment.start_s:
            return []
        self._current = segment
        events = []
        if before is not None:
            events += self._of(ActionEvent.END, before, before.end_s, zero_ns)
        if segment is not None:
            events += self._of(ActionEvent.START, segment, segment.start_s, zero_ns)
        return events

    def _of(self, kind: int, segment: Segment, time_s: float, zero_ns: int) -> list[ActionEvent]:
        events = []
        for task, label in segment.labels.items():
            event = ActionEvent(camera=self._camera, type=kind, task=task, label=label)
            event.score = event.order_evidence = 1.0
            event.header.frame_id = self._frame_id
            event.header.stamp = _stamp(time_s, zero_ns)
            event.start_stamp = _stamp(segment.start_s, zero_ns)
            events.append(event)
        return events


def _stamp(time_s: float, zero_ns: int) -> object:
    return Time(nanoseconds=zero_ns + round(time_s * NANOSECONDS)).to_msg()
