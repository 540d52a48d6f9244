# SPDX-License-Identifier: Apache-2.0
"""Publish `~/overlay`: frames with hypotheses and events, drawn only if there are subscribers."""

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
from step_ros.ros.qos import NO_PUBLISHER_EVENTS, OVERLAY_DEPTH
from step_ros.streaming.frame import GridFrame
from step_ros.streaming.pipeline import PostprocessedHypothesis
from step_ros.streaming.postprocessing.events import Event
from step_ros.streaming.postprocessing.fusion import FUSED
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.visualization.attention_map import NewestAttention, newest_attention
from step_ros.visualization.overlay import Overlay


@dataclass(frozen=True, kw_only=True)
class ShownFrame:
    """A frame to be drawn.

    Attributes:
        frame: The frame.
        attention: Attention map of a head on it; None to draw none.
    """

    frame: GridFrame
    attention: NewestAttention | None


class OverlayPublisher:
    """Draws hypotheses and events on each camera's frames, and publishes them.

    With one camera the topic is `~/overlay`, with several `~/overlay/CAMERA`.

    Args:
        node: The node.
        cameras: Names of the cameras.
        tasks: The tasks.
        recogniser: Gives the attention of its heads.
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
                'empty'
            )
        self._node, self._recogniser = node, recogniser
        # The publisher thread draws; the executor's thread adds events of lost cameras.
        self._lock = threading.Lock()
        self._attention_task = attention_task
        self._overlays = {camera: Overlay(camera, tasks) for camera in cameras}
        self._publishers: dict[str, Publisher] = {
            camera: node.create_publisher(
                Image,
                '~/overlay' if len(cameras) == 1 else f'~/overlay/{topic_part(camera)}',
                OVERLAY_DEPTH,
                event_callbacks=NO_PUBLISHER_EVENTS,
            )
            for camera in cameras
        }

    def choose_frames(self, frames: Iterable[GridFrame]) -> list[ShownFrame]:
        """Return the frames whose overlay has subscribers; called in the worker's thread.

        Args:
            frames: The newest frame of each camera in the batch.
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

    def publish(
        self, shown: Sequence[ShownFrame], published: Sequence[PostprocessedHypothesis]
    ) -> None:
        """Draw the published hypotheses, and publish frames; called in the publisher thread."""
        with self._lock:
            for each in published:
                latency_ns = time.monotonic_ns() - each.hypothesis.received_ns
                for overlay in self._overlays_of(each.hypothesis.camera):
                    overlay.update(each.hypothesis, each.events, latency_ns=latency_ns)
        for shown_frame in shown:
            self._draw(shown_frame.frame, shown_frame.attention)

    def add_events(self, events: Sequence[Event]) -> None:
        """Add events that ended without a hypothesis."""
        with self._lock:
            for event in events:
                for overlay in self._overlays_of(event.camera):
                    overlay.add_events([event])

    def close(self) -> None:
        """Destroy the publishers."""
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

    def _overlays_of(self, camera: str) -> list[Overlay]:
        """Return the overlays that show a camera's hypotheses: all of them for `fused`."""
        return [*self._overlays.values()] if camera == FUSED else [self._overlays[camera]]
