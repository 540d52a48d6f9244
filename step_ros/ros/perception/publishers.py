"""What the node says: hypotheses, events, and results for those who wait."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

from step_ros.model.bundle import Bundle
from step_ros.msg import ActionEvent, ActionHypothesis
from step_ros.ros.conversion import event_message, hypothesis_message, to_time, topic_part
from step_ros.ros.perception.wait_server import WaitServer
from step_ros.ros.qos import NO_PUBLISHER_EVENTS
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.liveness import StaleCameraDetector
from step_ros.streaming.pipeline import PostprocessedHypothesis, Postprocessor
from step_ros.streaming.postprocessing.events import Event
from step_ros.streaming.postprocessing.fusion import FUSED, CameraFusion
from step_ros.streaming.settings import StreamSettings

# ---- `vision_msgs/Classification` beside our own messages, where `vision_msgs` is installed.


class ClassificationPublisher:
    """Publishes each task's labels on `~/classifications/TASK`, for tools that know no others.

    Args:
        node: The node.
        depth: Messages that wait for a slow subscriber.
    """

    def __init__(self, node: LifecycleNode, *, depth: int) -> None:
        self._node, self._depth = node, depth
        self._publishers: dict[str, Any] = {}
        try:
            from vision_msgs.msg import Classification, ObjectHypothesis
        except ImportError:
            self._kind = None
            return
        self._kind, self._result = Classification, ObjectHypothesis

    @property
    def available(self) -> bool:
        """Whether `vision_msgs` is installed."""
        return self._kind is not None

    def publish(self, hypothesis: Hypothesis, *, top_k: int) -> None:
        """Publish a hypothesis, one message for each task; nothing without `vision_msgs`."""
        if self._kind is None:
            return
        for task in hypothesis.tasks:
            message = self._kind()
            message.header.stamp = to_time(hypothesis.stamp_ns)
            message.header.frame_id = hypothesis.frame_id
            message.results = [
                self._result(class_id=label, score=score) for label, score in task.top(top_k)
            ]
            self._publisher(task.spec.name).publish(message)

    def prepare(self, tasks: list[str]) -> None:
        """Make the publishers of these tasks, and no others."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()
        if self._kind is not None:
            for task in tasks:
                self._publisher(task)

    def _publisher(self, task: str) -> Any:
        if task not in self._publishers:
            topic = f'~/classifications/{topic_part(task)}'
            self._publishers[task] = self._node.create_publisher(
                self._kind, topic, self._depth, event_callbacks=NO_PUBLISHER_EVENTS
            )
        return self._publishers[task]


# Answers are few and small: a subscriber that is slow for a moment should not lose any.
DEPTH = 10

# Neighbours on grids of two cameras are at most half a frame period apart, and a frame of jitter.
FUSION_TOLERANCE = 0.6

# Frame periods without an answer after which the other cameras do not wait for one.
FUSION_PATIENCE = 5

# How often silent cameras are looked for, in seconds.
WATCH_PERIOD = 0.5


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """What decides what is told; all of it may change while the node is active.

    Attributes:
        settings: Smoothing and events.
        top_k: Labels of each task in a hypothesis.
        active_tasks: The tasks that are told; None for all.
        active_cameras: The cameras that are looked at; None for all.
    """

    settings: StreamSettings
    top_k: int
    active_tasks: frozenset[str] | None
    active_cameras: frozenset[str] | None

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> 'OutputSettings':
        """Read the node's parameters.

        Raises:
            ValueError: They do not fit together.
        """
        # A ROS parameter cannot be an empty list; an empty name stands for all.
        return cls(
            settings=StreamSettings.from_values(values),
            top_k=values['top_k'],
            active_tasks=frozenset(values['active_tasks']) - {''} or None,
            active_cameras=frozenset(values['active_cameras']) - {''} or None,
        )

    def cameras(self, names: Sequence[str]) -> frozenset[str]:
        """Return those of the cameras that are looked at."""
        everyone = frozenset(names)
        return everyone if self.active_cameras is None else everyone & self.active_cameras

    def check(self, bundle: Bundle, cameras: Sequence[str]) -> None:
        """See that the bundle answers the active tasks, and that the active cameras are there.

        Raises:
            ValueError: One of them is unknown.
        """
        known = [task.name for task in bundle.spec.tasks]
        if unknown := sorted((self.active_tasks or frozenset()) - set(known)):
            raise ValueError(
                f'active_tasks={unknown}: {bundle.model_id} answers ' + ', '.join(known)
            )
        if unknown := sorted((self.active_cameras or frozenset()) - set(cameras)):
            raise ValueError(f'active_cameras={unknown}; cameras are ' + ', '.join(cameras))


class HypothesisPublisher:
    """Publishes `~/hypotheses` and `~/events`, and serves `~/wait_for_action`.

    Hypotheses are taken in the teller's thread; all else is done in the executor's.

    Args:
        node: The node.
    """

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        overriding = QoSOverridingOptions.with_default_policies()
        self._hypotheses, self._events = (
            node.create_lifecycle_publisher(
                kind, topic, QoSProfile(depth=DEPTH), qos_overriding_options=overriding
            )
            for kind, topic in ((ActionHypothesis, '~/hypotheses'), (ActionEvent, '~/events'))
        )
        self._classifications = ClassificationPublisher(node, depth=DEPTH)
        self._waits = WaitServer(node)
        # What is said is published in the order in which it was found, whichever thread did.
        self._lock = threading.Lock()
        self._bundle: Bundle | None = None
        self._cameras: list[str] = []
        self._model_id = ''
        self._on_events: Callable[[Sequence[Event]], None] = lambda _: None
        self._output_settings: OutputSettings | None = None
        self._answers: Postprocessor | None = None
        self._watch: StaleCameraDetector | None = None
        self._timer: Any = None

    def activate(
        self,
        bundle: Bundle,
        telling: OutputSettings,
        *,
        cameras: Sequence[str],
        fuse: bool,
        max_gap_ns: int,
        model_id: str,
        received: Callable[[str], int],
        stream_timeout: float,
        on_events: Callable[[Sequence[Event]], None],
    ) -> None:
        """Begin.

        Args:
            bundle: What is answered.
            telling: What is told of it.
            cameras: Names of the cameras.
            fuse: Whether they show one scene, which is answered as one.
            max_gap_ns: As the recogniser has it.
            model_id: What the model is called.
            received: Tells how many frames a camera has sent.
            stream_timeout: Seconds without a frame after which a camera is lost; 0: never.
            on_events: Called with events that no hypothesis brought.

        Raises:
            ValueError: A single camera is to be fused, or a task or camera is unknown.
        """
        telling.check(bundle, cameras)
        period_ns = round(bundle.spec.frame_period * 1e9)
        fusion = None
        if fuse:
            if len(cameras) < 2:
                raise ValueError(f'fusion=mean with cameras={list(cameras)}: expected two or more')
            fusion = CameraFusion(
                cameras,
                tolerance_ns=round(FUSION_TOLERANCE * period_ns),
                stale_ns=FUSION_PATIENCE * period_ns,
            )
        self._bundle, self._output_settings, self._model_id = bundle, telling, model_id
        self._cameras = list(cameras)
        self._on_events = on_events
        self._answers = Postprocessor(
            telling.settings,
            max_gap_ns=max_gap_ns,
            fusion=fusion,
            active_tasks=telling.active_tasks,
        )
        self._watch = StaleCameraDetector(
            cameras, received=received, timeout_ns=round(stream_timeout * 1e9)
        )
        self._classifications.prepare([task.name for task in bundle.spec.tasks])
        self._waits.activate(
            tasks=bundle.spec.tasks,
            cameras=[FUSED] if fuse else list(cameras),
            open_events=self._answers.open_events,
            watch=self._watch,
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self._node.create_timer(WATCH_PERIOD, self._end_lost, clock=steady)

    def change(self, telling: OutputSettings) -> None:
        """Go on with other settings, from the next hypothesis on.

        Raises:
            ValueError: A task or camera is unknown; nothing has changed then.
        """
        bundle, answers, before = self._bundle, self._answers, self._output_settings
        if bundle is None or answers is None or before is None:
            return
        telling.check(bundle, self._cameras)
        with self._lock:
            answers.change(telling.settings, active_tasks=telling.active_tasks)
            self._output_settings = telling
        for camera in before.cameras(self._cameras) - telling.cameras(self._cameras):
            self._end(answers, camera)

    def take(self, hypothesis: Hypothesis) -> list[PostprocessedHypothesis]:
        """Tell what a camera's hypothesis says; called in the teller's thread."""
        with self._lock:
            return self._take(hypothesis)

    def _take(self, hypothesis: Hypothesis) -> list[PostprocessedHypothesis]:
        telling, answers = self._output_settings, self._answers
        assert telling is not None
        assert answers is not None
        # A frame may have waited while its camera was switched off.
        if hypothesis.camera not in telling.cameras(self._cameras):
            return []
        told = answers.process_hypothesis(hypothesis)
        for answer in told:
            self._hypotheses.publish(
                hypothesis_message(answer.hypothesis, model_id=self._model_id, top_k=telling.top_k)
            )
            self._classifications.publish(answer.hypothesis, top_k=telling.top_k)
            self._publish_events(answer.events)
            self._waits.update(answer)
        return told

    def deactivate(self) -> None:
        """End what is open and those who wait; call it when no hypothesis will come any more."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        self._waits.deactivate()
        if self._answers is not None:
            self._end(self._answers, None)
        self._bundle = self._output_settings = self._answers = self._watch = None

    def close(self) -> None:
        """Leave the graph."""
        self.deactivate()
        self._waits.close()

    def _end_lost(self) -> None:
        """End what is open on cameras that have fallen silent: nobody knows whether it goes on."""
        answers, watch = self._answers, self._watch
        if answers is None or watch is None:
            return
        lost = watch.lost(int(self._node.get_clock().now().nanoseconds))
        for camera in {event.camera for event in answers.open_events()} & lost:
            self._end(answers, camera)

    def _end(self, answers: Postprocessor, camera: str | None) -> None:
        """End what is open on a camera, or on all, for another reason than a hypothesis."""
        with self._lock:
            events = answers.close(camera)
            self._publish_events(events)
            self._on_events(events)

    def _publish_events(self, events: Sequence[Event]) -> None:
        for event in events:
            self._events.publish(event_message(event))
