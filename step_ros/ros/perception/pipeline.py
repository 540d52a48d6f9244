"""What runs while the perception node is active: from image topics to answers."""

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
        recogniser: Fresh; its cameras' memory is taken here, and none later.
        cameras: What to subscribe to.
        answers: Publishes what is said.
        values: The node's parameters.
        about: What is to be said of the model on `/diagnostics`, `model_id` among it.
        on_crash: Called in the worker's thread, or the teller's, when that ends by an error of its
            own.

    Attributes:
        diagnostics: Says how things are.

    Raises:
        ValueError: Parameters do not fit together or to the model.
    """

    def __init__(
        self,
        node: LifecycleNode,
        recogniser: StreamingRecogniser,
        *,
        cameras: Sequence[Camera],
        answers: HypothesisPublisher,
        values: dict[str, Any],
        about: dict[str, object],
        on_crash: Callable[[Exception], None],
    ) -> None:
        self._node, self._answers = node, answers
        self._cameras, self._values = [camera.name for camera in cameras], values
        # Whatever goes wrong on the way, what has begun is ended, the last first.
        with ExitStack() as begun:
            self._begin(recogniser, cameras, about, on_crash, begun)
            self._begun = begun.pop_all()

    def _begin(
        self,
        recogniser: StreamingRecogniser,
        cameras: Sequence[Camera],
        about: dict[str, object],
        on_crash: Callable[[Exception], None],
        begun: ExitStack,
    ) -> None:
        node, values, names = self._node, self._values, self._cameras
        bundle = recogniser.bundle
        streams = {name: recogniser.prepare(name) for name in names}
        region_topics = choose_region_topics(names, list(values['region_topics']))
        telling = OutputSettings.from_values(values)
        telling.check(bundle, names)
        self._overlays = OverlayPublisher(
            node,
            names,
            tasks=bundle.spec.tasks,
            recogniser=recogniser,
            attention_task=values['overlay_attention'],
        )
        begun.callback(self._overlays.close)
        self._answers.activate(
            bundle,
            telling,
            model_id=str(about['model_id']),
            cameras=names,
            fuse=values['fusion'] == 'mean',
            max_gap_ns=recogniser.settings.max_gap_ns,
            received=lambda camera: streams[camera].counts['received'],
            stream_timeout=values['stream_timeout'],
            on_events=self._overlays.add_events,
        )
        begun.callback(self._answers.deactivate)
        warnings = RepeatedWarnings(node.get_logger().warning, period=values['warn_period'])

        def on_problem(problem: FrameProblem) -> None:
            warnings.add(problem.camera, problem.cause, problem.detail)

        # Begun before the worker, it ends after it: what was found is told.
        self._publisher_thread = PublisherThread(on_crash=on_crash)
        begun.callback(self._publisher_thread.stop)
        self._worker = Worker(
            recogniser,
            queue_size=values['queue_size'],
            on_batch=self._hand_over,
            on_problem=on_problem,
            on_failure=self._report_failure,
            on_crash=on_crash,
        )
        self._worker.start()
        begun.callback(self._worker.stop)
        regions = RegionSubscriptions(
            node,
            region_topics,
            shape=(bundle.spec.image.height, bundle.spec.image.width),
            margin=values['region_margin'],
            timeout=values['region_timeout'],
        )
        begun.callback(regions.close)
        self._images = ImageSubscriptions(
            node,
            cameras,
            active=telling.cameras(names),
            reliability=values['reliability'],
            crop=regions.crop,
            take=self._worker.put_frame,
            refuse=self._worker.refuse,
        )
        begun.callback(self._images.close)
        self.diagnostics = Diagnostics(
            node.get_fully_qualified_name(),
            self._worker,
            cameras=names,
            frames=bundle.spec.frames,
            about=about,
            trouble=self._images.trouble,
            newest_ns=self._images.newest_ns,
            listens=self._images.listens,
        )

    def change(self, values: dict[str, Any]) -> None:
        """Go on with other parameters, as far as they can be changed now.

        Raises:
            ValueError: They do not fit; nothing has changed then.
        """
        telling = OutputSettings.from_values(values)
        self._answers.change(telling)
        self._images.set_active(telling.cameras(self._cameras))

    def _hand_over(self, frames: list[GridFrame], hypotheses: list[Hypothesis]) -> None:
        """Have the teller say what the worker found, and draw it."""
        newest = {frame.camera: frame for frame in frames}
        shown = self._overlays.choose(newest.values())
        self._publisher_thread.post(partial(self._tell, shown, hypotheses))

    def _tell(self, shown: list[ShownFrame], hypotheses: list[Hypothesis]) -> None:
        told = [answer for each in hypotheses for answer in self._answers.take(each)]
        self._overlays.take(shown, told)

    def _report_failure(self, error: Exception) -> None:
        self._node.get_logger().error(
            f'the model failed on a batch, its frames are lost and the windows restart: '
            f'{type(error).__name__}: {error}',
            throttle_duration_sec=self._values['warn_period'],
        )

    def close(self) -> None:
        """Unsubscribe, finish the frames at hand, and end what is open."""
        self._begun.close()
