"""The camera node: the synthetic tabletop or a video file as a ROS camera."""

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
from step_ros.ros.runner import run_node
from step_ros.tabletop.simulator import ActionSegment

IMAGE_DEPTH = 10
# Three tasks with two events every two seconds: a subscriber may come a minute late.
TRUTH_DEPTH = 256
# How often the main thread looks whether it is to end, in seconds.
SPIN_PERIOD = 0.1


class CameraNode(Node):
    """Shows a source as a camera.

    Publishes `image_raw` (`sensor_msgs/Image`) or `image_raw/compressed`
    (`sensor_msgs/CompressedImage`), and for the tabletop `truth` (`ActionEvent`, kept for late
    subscribers). Stamps are the times at which the images are meant to be taken, by the node's
    clock; stream time zero is the stamp of the first image.

    Args:
        options: For `rclpy.node.Node`.

    Raises:
        ParameterException: A parameter has a value that it does not take.
        ValueError: Parameters do not fit together.
        VideoError: The video cannot be read.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('camera', **options)
        self.stream: CameraPlayer | None = None
        declare_parameters(self, PARAMETERS, load_defaults(DEFAULTS_FILE))
        self._values = parameter_values(self, PARAMETERS)
        self.add_on_set_parameters_callback(self._refuse_changes)
        values = self._values
        self._stop = threading.Event()
        self._truth_track = TruthTrack(camera=values['camera'], frame_id=values['frame_id'])
        compressed = values['transport'] == 'compressed'
        source = self._source()
        self._images = self.create_publisher(
            CompressedImage if compressed else Image,
            'image_raw/compressed' if compressed else 'image_raw',
            _image_qos(values['reliability']),
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
            f'showing {values["source"]} on {self._images.topic_name}, '
            + (f'{values["rate"]:g} Hz' if values['rate'] else "at the video's own times")
        )

    def flush(self) -> None:
        """Give reliable subscribers a moment to get the last messages."""
        for publisher in (self._truth, self._images):
            publisher.wait_for_all_acked(Duration(seconds=1))

    def destroy_node(self) -> None:
        """End the stream and leave ROS."""
        # A constructor that failed has left none, and rclpy tidies up such a node too.
        if self.stream is not None:
            self.stream.stop()
            self._watch.close()
        super().destroy_node()

    def _refuse_changes(self, changes: list[Parameter]) -> SetParametersResult:
        names = [change.name for change in changes if change.name in self._values]
        return SetParametersResult(
            successful=not names,
            reason=f'{", ".join(names)}: read only when the camera starts' if names else '',
        )

    def _source(self) -> CameraSource:
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
        # Events first: whoever has the image can know what it shows.
        for event in self._truth_track.events(segment, zero_ns=zero_ns):
            self._truth.publish(event)
        self._images.publish(message)


def _image_qos(reliability: str) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=IMAGE_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE
        if reliability == 'reliable'
        else ReliabilityPolicy.BEST_EFFORT,
    )


_TRUTH_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=TRUTH_DEPTH,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def main(args: list[str] | None = None) -> int:
    """Run the node until its video ends or it is interrupted.

    Returns:
        0; or 1 after one line on what was wrong.
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
