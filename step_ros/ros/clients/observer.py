"""Listens to a running perception node and a camera, as any user of the package would."""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image

from step_ros.evaluation.ground_truth import Observation, TaskAnswer, Truth
from step_ros.images.errors import FrameError
from step_ros.msg import ActionEvent, ActionHypothesis, ModelInfo
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.images import to_rgb
from step_ros.ros.qos import LATCHED
from step_ros.ros.spinning_node import SpinningNode

# A kept picture every so many seconds is enough for a video to be looked at.
PICTURE_PERIOD_NS = 90_000_000
JPEG_QUALITY = 92


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A frame kept for the annotated video: stamp and JPEG bytes."""

    stamp_ns: int
    jpeg: bytes

    def image(self) -> np.ndarray:
        """Return the pixels, uint8 RGB."""
        decoded = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None  # our own JPEG
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


class Observer:
    """Collects hypotheses, truth and pictures in a thread of its own.

    Args:
        perception: Full name of the perception node.
        image_topic: Raw image topic of the camera.
        truth_topic: Topic of the camera's true labels.

    Attributes:
        observations: Hypotheses so far.
        truth: True labels so far.
        pictures: Frames kept for a video.
        model: What the node said it decides; None until it did.
        arrivals_ns: Arrival of recent frames, for their rate.
    """

    def __init__(self, *, perception: str, image_topic: str, truth_topic: str) -> None:
        self.observations: list[Observation] = []
        self.truth = Truth()
        self.pictures: list[Picture] = []
        self.model: ModelInfo | None = None
        self.arrivals_ns: deque[int] = deque(maxlen=90)
        self._spinning = SpinningNode('step_ros_observer')
        self._node = self._spinning.node
        self._node.create_subscription(
            ActionHypothesis, f'{perception}/hypotheses', self._on_hypothesis, 50
        )
        self._node.create_subscription(
            ModelInfo, f'{perception}/model_info', self._on_model, LATCHED
        )
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._node.create_subscription(ActionEvent, truth_topic, self._on_truth, latched)
        self._node.create_subscription(Image, image_topic, self._on_image, qos_profile_sensor_data)
        self._spinning.start()

    def close(self) -> None:
        """Stop listening."""
        self._spinning.close()

    def _on_model(self, message: ModelInfo) -> None:
        self.model = message

    def _on_hypothesis(self, message: ActionHypothesis) -> None:
        self.observations.append(
            Observation(
                camera=message.camera,
                window_start_ns=to_nanoseconds(message.window_start),
                stamp_ns=to_nanoseconds(message.header.stamp),
                arrival_ns=self._node.get_clock().now().nanoseconds,
                node_latency_ns=to_nanoseconds(message.latency),
                answers={
                    task.task: TaskAnswer(
                        label=task.labels[0],
                        score=task.scores[0],
                        counterpart=task.counterpart,
                        counterpart_score=task.counterpart_score,
                        order_evidence=task.order_evidence,
                    )
                    for task in message.tasks
                },
            )
        )

    def _on_truth(self, message: ActionEvent) -> None:
        stamp_ns = to_nanoseconds(message.header.stamp)
        if message.type == ActionEvent.START:
            self.truth.start(message.task, message.label, stamp_ns)
        else:
            start_ns = to_nanoseconds(message.start_stamp)
            self.truth.end(message.task, message.label, start_ns, stamp_ns)

    def _on_image(self, message: Image) -> None:
        stamp_ns = to_nanoseconds(message.header.stamp)
        self.arrivals_ns.append(self._node.get_clock().now().nanoseconds)
        if self.pictures and stamp_ns - self.pictures[-1].stamp_ns < PICTURE_PERIOD_NS:
            return
        try:
            bgr = cv2.cvtColor(to_rgb(message), cv2.COLOR_RGB2BGR)
        except FrameError as error:
            self._node.get_logger().warning(f'picture left out: {error}')
            return
        done, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if done:
            self.pictures.append(Picture(stamp_ns=stamp_ns, jpeg=jpeg.tobytes()))
