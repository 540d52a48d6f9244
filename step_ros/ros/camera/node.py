# SPDX-License-Identifier: Apache-2.0
"""The camera node: publishes the synthetic tabletop or a video file as a ROS camera."""

import threading
from typing import Any

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from step_ros.cameras.sources import CameraSource, TabletopSource, VideoSource
from step_ros.io.video import VideoError
from step_ros.msg import ActionEvent
from step_ros.resources import load_defaults
from step_ros.ros.camera.parameters import DEFAULTS_FILE, PARAMETERS
from step_ros.ros.camera.player import CameraPlayer, ClockWatch, TruthTrack
from step_ros.ros.images import from_rgb, to_compressed
from step_ros.ros.parameters import declare_parameters, parameter_values
from step_ros.ros.process_setup import make_room_for_large_images
from step_ros.ros.qos import image_qos
from step_ros.ros.runner import run_node
from step_ros.tabletop.simulator import ActionSegment

# Three tasks with two events every two seconds: a subscriber that comes a minute late gets all.
TRUTH_DEPTH = 256
# Longest seconds until the main thread notices that it must end.
SPIN_PERIOD = 0.1


class CameraNode(Node):
    """Publishes a source as a camera.

    Publishes `image_raw` (`sensor_msgs/Image`) or `image_raw/compressed`
    (`sensor_msgs/CompressedImage`), and for the tabletop `truth` (`ActionEvent`, kept for late
    subscribers). A stamp is the nominal capture time by the node's clock. Stream time zero is the
    stamp of the first image.

    Args:
        options: For `rclpy.node.Node`.

    Attributes:
        stream: The thread that publishes; None if the constructor failed.

    Raises:
        ParameterException: A parameter has a value that is not allowed.
        ValueError: The parameters contradict each other.
        VideoError: The video cannot be read.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('camera', **options)
        self.stream: CameraPlayer | None = None
        declare_parameters(self, PARAMETERS, load_defaults(DEFAULTS_FILE))
        self._values = parameter_values(self, PARAMETERS)
        self.add_on_set_parameters_callback(self._reject_changes)
        values = self._values
        self._stop = threading.Event()
        self._truth_track = TruthTrack(camera=values['camera'], frame_id=values['frame_id'])
        compressed = values['transport'] == 'compressed'
        source = self._create_source()
        self._images = self.create_publisher(
            CompressedImage if compressed else Image,
            'image_raw/compressed' if compressed else 'image_raw',
            image_qos(ReliabilityPolicy[values['reliability'].upper()]),
        )
        self._truth = self.create_publisher(ActionEvent, 'truth', _TRUTH_QOS)
        self._watch = ClockWatch(self.get_clock(), self._stop)
        self.stream = CameraPlayer(
            source,
            self._watch,
            start_delay=values['start_delay'],
            stop=self._stop,
            encode=self._encode_compressed if compressed else self._encode_raw,
            publish=self._publish,
            on_restart=self._truth_track.restart,
            logger=self.get_logger(),
        )
        self.get_logger().info(
            f'publishing {values["source"]} on {self._images.topic_name}, '
            + (
                f'{values["rate"]:g} Hz'
                if values['rate']
                else "at the times of the video's frames"
            )
        )

    def flush(self) -> None:
        """Wait until reliable subscribers have the last messages, at most a second each."""
        for publisher in (self._truth, self._images):
            publisher.wait_for_all_acked(Duration(seconds=1))

    def destroy_node(self) -> None:
        """Stop the stream and destroy the node."""
        # rclpy destroys a node whose constructor failed, too; then there is no stream.
        if self.stream is not None:
            self.stream.stop()
            self._watch.close()
        super().destroy_node()

    def _reject_changes(self, changes: list[Parameter]) -> SetParametersResult:
        names = [change.name for change in changes if change.name in self._values]
        return SetParametersResult(
            successful=not names,
            reason=f'{", ".join(names)}: cannot change while the camera runs' if names else '',
        )

    def _create_source(self) -> CameraSource:
        values = self._values
        size = {'width': values['width'], 'height': values['height']}
        if values['source'] == 'tabletop':
            return TabletopSource(
                seed=values['seed'],
                split=values['split'],
                view=values['view'],
                rate=values['rate'],
                **size,
            )
        return VideoSource(values['source'], rate=values['rate'], loop=values['loop'], **size)

    def _encode_raw(self, image_hw3: np.ndarray) -> Image:
        header = Header(frame_id=self._values['frame_id'])
        return from_rgb(image_hw3, self._values['encoding'], header)

    def _encode_compressed(self, image_hw3: np.ndarray) -> CompressedImage:
        header = Header(frame_id=self._values['frame_id'])
        return to_compressed(image_hw3, header, quality=self._values['jpeg_quality'])

    def _publish(self, message: Any, segment: ActionSegment | None, zero_ns: int) -> None:
        # Events first: a subscriber that has the image then has the truth about it, too.
        for event in self._truth_track.events(segment, zero_ns=zero_ns):
            self._truth.publish(event)
        self._images.publish(message)


_TRUTH_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=TRUTH_DEPTH,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def main(args: list[str] | None = None) -> int:
    """Run the node until its video ends or it is interrupted.

    Returns:
        Exit code: 0, or 1 after an error in the arguments or the video, logged in one line.
    """
    make_room_for_large_images()
    return run_node('camera', CameraNode, _run, args=args, expected=(VideoError, ValueError))


def _run(node: CameraNode, stop: threading.Event) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stream = node.stream
    assert stream is not None
    stream.start()
    while stream.is_alive() and not stop.is_set():
        executor.spin_once(timeout_sec=SPIN_PERIOD)
    if stream.error is not None:
        raise stream.error
    if not stop.is_set():
        node.get_logger().info(f'the video ended after {stream.published} images')
        node.flush()
