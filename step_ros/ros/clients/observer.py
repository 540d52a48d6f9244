# SPDX-License-Identifier: Apache-2.0
"""The demo's client: collects hypotheses, true labels and pictures while a demo runs."""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import Image

from step_ros.evaluation.ground_truth import Observation, Truth
from step_ros.files import Closing
from step_ros.images.errors import FrameError
from step_ros.msg import ActionEvent, ActionHypothesis, ModelInfo
from step_ros.ros.clients.perception_client import (
    PerceptionClient,
    PerceptionTopics,
    to_observation,
)
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.images import to_rgb

# Eleven pictures a second are enough for a video, and fit into memory.
PICTURE_PERIOD_NS = 90_000_000
JPEG_QUALITY = 92
# Hypotheses that may wait for the callback.
_DEPTH = 50


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A frame kept for the annotated video: stamp and JPEG bytes."""

    stamp_ns: int
    jpeg: bytes

    def image(self) -> np.ndarray:
        """Return the pixels, uint8 RGB."""
        decoded = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None  # `Observer` encoded it
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


class Observer(Closing):
    """Collects hypotheses, true labels and pictures in a thread of its own.

    Args:
        perception: Full name of the perception node.
        image_topic: Raw image topic of the camera.
        truth_topic: Topic of the camera's true labels.

    Attributes:
        observations: Hypotheses so far.
        truth: True labels so far.
        pictures: Frames kept for a video.
        model: The node's model info; None until it arrives.
        arrivals_ns: Arrival times of recent frames, for their rate.
    """

    def __init__(self, *, perception: str, image_topic: str, truth_topic: str) -> None:
        self.observations: list[Observation] = []
        self.truth = Truth()
        self.pictures: list[Picture] = []
        self.model: ModelInfo | None = None
        self.arrivals_ns: deque[int] = deque(maxlen=90)
        self._client = PerceptionClient('step_ros_observer')
        self._client.subscribe(
            PerceptionTopics.of_node(perception),
            on_hypothesis=self._on_hypothesis,
            on_model_info=self._on_model_info,
            depth=_DEPTH,
        )
        self._client.subscribe_camera(
            image_topic=image_topic,
            on_image=self._on_image,
            truth_topic=truth_topic,
            on_truth=self._on_truth,
        )
        self._client.start()

    def close(self) -> None:
        """End the subscriptions."""
        self._client.close()

    def _now_ns(self) -> int:
        return int(self._client.node.get_clock().now().nanoseconds)

    def _on_model_info(self, message: ModelInfo) -> None:
        self.model = message

    def _on_hypothesis(self, message: ActionHypothesis) -> None:
        self.observations.append(to_observation(message, self._now_ns()))

    def _on_truth(self, message: ActionEvent) -> None:
        stamp_ns = to_nanoseconds(message.header.stamp)
        if message.type == ActionEvent.START:
            self.truth.start(message.task, message.label, stamp_ns)
        else:
            start_ns = to_nanoseconds(message.start_stamp)
            self.truth.end(message.task, message.label, start_ns, stamp_ns)

    def _on_image(self, message: Image) -> None:
        stamp_ns = to_nanoseconds(message.header.stamp)
        self.arrivals_ns.append(self._now_ns())
        if self.pictures and stamp_ns - self.pictures[-1].stamp_ns < PICTURE_PERIOD_NS:
            return
        try:
            bgr = cv2.cvtColor(to_rgb(message), cv2.COLOR_RGB2BGR)
        except FrameError as error:
            self._client.node.get_logger().warning(f'frame left out of the video: {error}')
            return
        done, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if done:
            self.pictures.append(Picture(stamp_ns=stamp_ns, jpeg=jpeg.tobytes()))
