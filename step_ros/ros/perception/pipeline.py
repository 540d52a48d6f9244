# SPDX-License-Identifier: Apache-2.0
"""All that runs while the perception node is active: from image topics to published hypotheses.

images -> Worker (its own thread) -> PublisherThread -> HypothesisPublisher, OverlayPublisher
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode

from step_ros.reporting.throttled_warnings import RepeatedWarnings
from step_ros.ros.perception.diagnostics import Diagnostics
from step_ros.ros.perception.image_input import (
    Camera,
    ImageSubscriptions,
    RegionSubscriptions,
    choose_region_topics,
)
from step_ros.ros.perception.overlay_publisher import OverlayPublisher, ShownFrame
from step_ros.ros.perception.publishers import HypothesisPublisher, OutputSettings
from step_ros.streaming.frame import FrameProblem, GridFrame
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.recogniser import StreamingRecogniser
from step_ros.streaming.worker import PublisherThread, Worker


class PerceptionSession:
    """Subscribes, recognises and publishes until it is closed.

    Args:
        node: The node.
        recogniser: A new recogniser. The memory of all cameras is allocated here, none later.
        cameras: The cameras to subscribe to.
        publisher: Publishes hypotheses and events.
        values: The node's parameters.
        about: Values of the model's status on `/diagnostics`, including `model_id`.
        on_crash: Called when the worker thread or the publisher thread ends by an error, in that
            thread.

    Attributes:
        diagnostics: Makes the statuses of cameras and model.

    Raises:
        ValueError: The parameters contradict each other or do not fit the model.
    """

    def __init__(
        self,
        node: LifecycleNode,
        recogniser: StreamingRecogniser,
        *,
        cameras: Sequence[Camera],
        publisher: HypothesisPublisher,
        values: dict[str, Any],
        about: dict[str, object],
        on_crash: Callable[[Exception], None],
    ) -> None:
        self._node, self._publisher = node, publisher
        self._cameras, self._values = [camera.name for camera in cameras], values
        # If a part fails to start, the parts started before are closed, the last one first.
        with ExitStack() as started:
            self._start(recogniser, cameras, about, on_crash, started)
            self._started = started.pop_all()

    def _start(
        self,
        recogniser: StreamingRecogniser,
        cameras: Sequence[Camera],
        about: dict[str, object],
        on_crash: Callable[[Exception], None],
        started: ExitStack,
    ) -> None:
        node, values, names = self._node, self._values, self._cameras
        bundle = recogniser.bundle
        streams = {name: recogniser.prepare(name) for name in names}
        region_topics = choose_region_topics(names, list(values['region_topics']))
        output = OutputSettings.from_values(values)
        output.check(bundle, names)
        overlays = OverlayPublisher(
            node,
            names,
            tasks=bundle.spec.tasks,
            recogniser=recogniser,
            attention_task=values['overlay_attention'],
        )
        started.callback(overlays.close)
        self._publisher.activate(
            bundle,
            output,
            model_id=str(about['model_id']),
            cameras=names,
            fuse=values['fusion'] == 'mean',
            max_gap_ns=recogniser.settings.max_gap_ns,
            received=lambda camera: streams[camera].counts['received'],
            stream_timeout=values['stream_timeout'],
            on_events=overlays.add_events,
        )
        started.callback(self._publisher.deactivate)
        warnings = RepeatedWarnings(node.get_logger().warning, period=values['warn_period'])

        def on_problem(problem: FrameProblem) -> None:
            warnings.add(problem.camera, problem.cause, problem.detail)

        # Started before the worker, so closed after it: it publishes the last hypotheses.
        publisher_thread = PublisherThread(on_crash=on_crash)
        started.callback(publisher_thread.stop)
        # The worker's callbacks do not refer to this session, which refers to the worker: a
        # closed session is freed at once, with the memory of all cameras.
        self._worker = Worker(
            recogniser,
            queue_size=values['queue_size'],
            on_batch=_BatchPublisher(overlays, publisher_thread, self._publisher),
            on_problem=on_problem,
            on_failure=partial(_report_failure, node, values['warn_period']),
            on_crash=on_crash,
        )
        self._worker.start()
        started.callback(self._worker.stop)
        regions = RegionSubscriptions(
            node,
            region_topics,
            shape=(bundle.spec.image.height, bundle.spec.image.width),
            margin=values['region_margin'],
            timeout=values['region_timeout'],
        )
        started.callback(regions.close)
        self._images = ImageSubscriptions(
            node,
            cameras,
            active=output.cameras(names),
            reliability=values['reliability'],
            crop=regions.crop,
            on_frame=self._worker.put_frame,
            on_error=self._worker.refuse,
        )
        started.callback(self._images.close)
        self.diagnostics = Diagnostics(
            node.get_fully_qualified_name(),
            self._worker,
            cameras=names,
            frames=bundle.spec.frames,
            about=about,
            problem=self._images.problem,
            newest_ns=self._images.newest_ns,
            is_active=self._images.is_active,
            warn=node.get_logger().warning,
        )

    def change(self, values: dict[str, Any]) -> None:
        """Apply the live parameters.

        Raises:
            ValueError: The parameters contradict each other; then nothing has changed.
        """
        output = OutputSettings.from_values(values)
        self._publisher.change(output)
        self._images.set_active(output.cameras(self._cameras))

    def close(self) -> None:
        """Unsubscribe, finish the batch in progress, and end open events and pending goals."""
        self._started.close()


class _BatchPublisher:
    """Hands the worker's batches on to the publisher thread.

    Args:
        overlays: Draws frames.
        thread: Runs the publishing.
        publisher: Publishes hypotheses and events.
    """

    def __init__(
        self, overlays: OverlayPublisher, thread: PublisherThread, publisher: HypothesisPublisher
    ) -> None:
        self._overlays, self._thread, self._publisher = overlays, thread, publisher

    def __call__(self, frames: list[GridFrame], hypotheses: list[Hypothesis]) -> None:
        """Hand a batch to the publisher thread; called in the worker's thread."""
        newest = {frame.camera: frame for frame in frames}
        shown = self._overlays.choose_frames(newest.values())
        self._thread.post(partial(self._publish, shown, hypotheses))

    def _publish(self, shown: list[ShownFrame], hypotheses: list[Hypothesis]) -> None:
        published = [
            processed
            for hypothesis in hypotheses
            for processed in self._publisher.publish(hypothesis)
        ]
        self._overlays.publish(shown, published)


def _report_failure(node: LifecycleNode, period: float, error: Exception) -> None:
    node.get_logger().error(
        f'the model failed on a batch; its frames are dropped and the windows restart: '
        f'{type(error).__name__}: {error}',
        throttle_duration_sec=period,
    )
