"""`~/overlay`: what the model sees and says, drawn when somebody looks at it."""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from step_ros.images.region import seen_box
from step_ros.model.bundle_schema import TaskSpec
from step_ros.ros.conversion import to_time, topic_part
from step_ros.ros.images import from_rgb
from step_ros.ros.qos import NO_PUBLISHER_EVENTS
from step_ros.streaming.frame import GridFrame
from step_ros.streaming.pipeline import PostprocessedHypothesis
from step_ros.streaming.postprocessing.events import Event
from step_ros.streaming.postprocessing.fusion import FUSED
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.visualization.attention_map import NewestAttention, newest_attention
from step_ros.visualization.overlay import Overlay

# Pictures are large, and only the newest is of interest.
DEPTH = 2


@dataclass(frozen=True, kw_only=True)
class ShownFrame:
    """A frame that is drawn.

    Attributes:
        frame: The frame.
        attention: Where the heads looked in it; None for nothing.
    """

    frame: GridFrame
    attention: NewestAttention | None


class OverlayPublisher:
    """Draws and publishes a camera's frame with what is said of it.

    With one camera the topic is `~/overlay`, with several `~/overlay/CAMERA`.

    Args:
        node: The node.
        cameras: Names of the cameras.
        tasks: The tasks.
        recogniser: Tells where heads look.
        attention_task: The task whose attention is drawn; empty for none.

    Raises:
        ValueError: The task is unknown.
    """

    def __init__(
        self,
        node: LifecycleNode,
        cameras: Sequence[str],
        *,
        tasks: Sequence[TaskSpec],
        recogniser: StreamingRecogniser,
        attention_task: str,
    ) -> None:
        names = [task.name for task in tasks]
        if attention_task and attention_task not in names:
            raise ValueError(
                f'overlay_attention={attention_task!r}; expected one of: {", ".join(names)}, or '
                'nothing'
            )
        self._node, self._recogniser = node, recogniser
        # Frames come in the teller's thread, the end of a lost stream in the executor's.
        self._lock = threading.Lock()
        self._attention_task = attention_task
        self._overlays = {camera: Overlay(camera, tasks) for camera in cameras}
        self._publishers: dict[str, Publisher] = {
            camera: node.create_publisher(
                Image,
                '~/overlay' if len(cameras) == 1 else f'~/overlay/{topic_part(camera)}',
                DEPTH,
                event_callbacks=NO_PUBLISHER_EVENTS,
            )
            for camera in cameras
        }

    def choose(self, frames: Iterable[GridFrame]) -> list[ShownFrame]:
        """Choose the frames that somebody looks at; called in the worker's thread.

        Args:
            frames: The newest of some cameras.
        """
        return [
            ShownFrame(
                frame=frame,
                attention=newest_attention(self._recogniser, frame.camera, self._attention_task)
                if self._attention_task
                else None,
            )
            for frame in frames
            if self._publishers[frame.camera].get_subscription_count()
        ]

    def take(
        self, shown: Sequence[ShownFrame], answers: Sequence[PostprocessedHypothesis]
    ) -> None:
        """Take what was told, and draw it; called in the teller's thread."""
        with self._lock:
            for answer in answers:
                latency_ns = time.monotonic_ns() - answer.hypothesis.received_ns
                for overlay in self._of(answer.hypothesis.camera):
                    overlay.update(answer.hypothesis, answer.events, latency_ns=latency_ns)
        for each in shown:
            self._draw(each.frame, each.attention)

    def add_events(self, events: Sequence[Event]) -> None:
        """Take events that came without a frame."""
        with self._lock:
            for event in events:
                for overlay in self._of(event.camera):
                    overlay.add_events([event])

    def close(self) -> None:
        """Leave the graph."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)

    def _draw(self, frame: GridFrame, attention: NewestAttention | None) -> None:
        rows, columns = frame.image_hw3.shape[:2]
        image = self._recogniser.bundle.spec.image
        with self._lock:
            drawn_hw3 = self._overlays[frame.camera].draw(
                frame.image_hw3,
                stamp_ns=frame.stamp_ns,
                seen=seen_box((rows, columns), (image.height, image.width), frame.box),
                attention=attention,
            )
        header = Header(stamp=to_time(frame.stamp_ns), frame_id=frame.frame_id)
        self._publishers[frame.camera].publish(from_rgb(drawn_hw3, 'rgb8', header))

    def _of(self, camera: str) -> list[Overlay]:
        """Return the overlays that show what is said of a camera."""
        return [*self._overlays.values()] if camera == FUSED else [self._overlays[camera]]
