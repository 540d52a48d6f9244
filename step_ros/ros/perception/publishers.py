# SPDX-License-Identifier: Apache-2.0
"""Publish the node's output: hypotheses, events, classifications, and results of waiting goals.

`HypothesisPublisher` postprocesses each hypothesis and publishes it with its events. It also gives
them to `WaitServer`, and to `ClassificationPublisher`, which needs the package `vision_msgs`.
"""

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
from step_ros.ros.qos import DEPTH, NO_PUBLISHER_EVENTS
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.hypothesis import Hypothesis
from step_ros.streaming.liveness import StaleCameraDetector
from step_ros.streaming.pipeline import PostprocessedHypothesis, Postprocessor
from step_ros.streaming.postprocessing.event_goal import StartLimits
from step_ros.streaming.postprocessing.events import Event
from step_ros.streaming.postprocessing.fusion import FUSED, CameraFusion
from step_ros.streaming.settings import StreamSettings

# Tolerance between the stamps of two views of one moment, in frame periods. The grids of two
# cameras are at most half a period apart; the rest is for jitter.
FUSION_TOLERANCE = 0.6

# Frame periods without a hypothesis after which the other cameras do not wait for a camera.
FUSION_PATIENCE = 5

# Seconds between two checks for lost cameras.
WATCH_PERIOD = 0.5


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """The settings of the output. All of them may change while the node is active.

    Attributes:
        settings: Smoothing and events.
        top_k: Labels of each task in a hypothesis.
        active_tasks: The tasks that are published; None for all.
        active_cameras: The cameras that the node subscribes to; None for all.
    """

    settings: StreamSettings
    top_k: int
    active_tasks: frozenset[str] | None
    active_cameras: frozenset[str] | None

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> 'OutputSettings':
        """Return the settings in the node's parameters.

        Raises:
            ValueError: The parameters contradict each other.
        """
        # A ROS parameter cannot be an empty list: a single empty name stands for all.
        return cls(
            settings=StreamSettings.from_values(values),
            top_k=values['top_k'],
            active_tasks=frozenset(values['active_tasks']) - {''} or None,
            active_cameras=frozenset(values['active_cameras']) - {''} or None,
        )

    def cameras(self, names: Sequence[str]) -> frozenset[str]:
        """Return the active cameras among all cameras."""
        every_camera = frozenset(names)
        if self.active_cameras is None:
            return every_camera
        return every_camera & self.active_cameras

    def limits(self, *, fused: bool) -> StartLimits:
        """Return which events may start; a fused view is active whatever its cameras are."""
        return StartLimits(
            active_tasks=self.active_tasks,
            active_cameras=None if fused else self.active_cameras,
            ignored_labels=self.settings.events().ignored_labels,
            order_evidence=self.settings.order_evidence,
        )

    def check(self, bundle: Bundle, cameras: Sequence[str]) -> None:
        """Check that the bundle has the active tasks, and the node the active cameras.

        Raises:
            ValueError: A task or camera is unknown.
        """
        known = [task.name for task in bundle.spec.tasks]
        if unknown := sorted((self.active_tasks or frozenset()) - set(known)):
            raise ValueError(
                f'active_tasks={unknown}: the tasks of {bundle.model_id} are ' + ', '.join(known)
            )
        if unknown := sorted((self.active_cameras or frozenset()) - set(cameras)):
            raise ValueError(f'active_cameras={unknown}: the cameras are ' + ', '.join(cameras))


class HypothesisPublisher:
    """Publishes `~/hypotheses` and `~/events`, and serves `~/wait_for_action`.

    The publisher thread calls `publish`; the executor's thread calls everything else.

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
        self._wait_server = WaitServer(node)
        # Both threads publish events: the lock keeps them in the order in which they were found.
        self._lock = threading.Lock()
        self._bundle: Bundle | None = None
        self._cameras: list[str] = []
        self._fused = False
        self._model_id = ''
        self._on_events: Callable[[Sequence[Event]], None] = _ignore_events
        self._output: OutputSettings | None = None
        self._postprocessor: Postprocessor | None = None
        self._watch: StaleCameraDetector | None = None
        self._timer: Any = None

    def activate(
        self,
        bundle: Bundle,
        output: OutputSettings,
        *,
        cameras: Sequence[str],
        fuse: bool,
        max_gap_ns: int,
        model_id: str,
        received: Callable[[str], int],
        stream_timeout: float,
        on_events: Callable[[Sequence[Event]], None],
    ) -> None:
        """Start to publish and to accept goals.

        Args:
            bundle: The bundle whose hypotheses are published.
            output: The settings of the output.
            cameras: Names of the cameras.
            fuse: Whether the cameras show one scene, whose hypotheses are fused into one.
            max_gap_ns: The recogniser's `max_gap`, in nanoseconds.
            model_id: Name of the model, for the messages.
            received: Returns the number of frames received from a camera.
            stream_timeout: Seconds without a frame after which a camera is lost; 0 for never.
            on_events: Called with events that end for another reason than a hypothesis.

        Raises:
            ValueError: A single camera is to be fused, or a task or camera is unknown.
        """
        output.check(bundle, cameras)
        period_ns = round(bundle.spec.frame_period * NANOSECONDS)
        fusion = None
        if fuse:
            if len(cameras) < 2:
                raise ValueError(f'fusion=mean with cameras={list(cameras)}: expected two or more')
            fusion = CameraFusion(
                cameras,
                tolerance_ns=round(FUSION_TOLERANCE * period_ns),
                stale_ns=FUSION_PATIENCE * period_ns,
            )
        self._bundle, self._output, self._model_id = bundle, output, model_id
        self._cameras, self._fused = list(cameras), fuse
        self._on_events = on_events
        self._postprocessor = Postprocessor(
            output.settings,
            max_gap_ns=max_gap_ns,
            fusion=fusion,
            active_tasks=output.active_tasks,
        )
        self._watch = StaleCameraDetector(
            cameras, received=received, timeout_ns=round(stream_timeout * NANOSECONDS)
        )
        self._classifications.prepare([task.name for task in bundle.spec.tasks])
        self._wait_server.activate(
            tasks=bundle.spec.tasks,
            cameras=[FUSED] if fuse else list(cameras),
            open_events=self._postprocessor.open_events,
            watch=self._watch,
            limits=output.limits(fused=fuse),
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self._node.create_timer(WATCH_PERIOD, self._end_lost, clock=steady)

    def change(self, output: OutputSettings) -> None:
        """Use other settings from the next hypothesis on.

        Raises:
            ValueError: A task or camera is unknown; then the settings stay as they are.
        """
        bundle, postprocessor, before = self._bundle, self._postprocessor, self._output
        if bundle is None or postprocessor is None or before is None:
            return
        output.check(bundle, self._cameras)
        with self._lock:
            postprocessor.change(output.settings, active_tasks=output.active_tasks)
            self._output = output
        self._wait_server.change(output.limits(fused=self._fused))
        for camera in before.cameras(self._cameras) - output.cameras(self._cameras):
            self._end(postprocessor, camera)

    def publish(self, hypothesis: Hypothesis) -> list[PostprocessedHypothesis]:
        """Publish a camera's hypothesis and its events; called in the publisher thread.

        Returns:
            The postprocessed hypotheses that were published: several or none with fusion.
        """
        with self._lock:
            return self._publish(hypothesis)

    def deactivate(self) -> None:
        """End open events and pending goals. Call it once no hypothesis can follow."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        self._wait_server.deactivate()
        if self._postprocessor is not None:
            self._end(self._postprocessor, None)
        self._bundle = self._output = self._postprocessor = self._watch = None
        # The overlays, which refer to the recogniser, are over.
        self._on_events = _ignore_events

    def close(self) -> None:
        """Deactivate, and destroy the action server."""
        self.deactivate()
        self._wait_server.close()

    def _publish(self, hypothesis: Hypothesis) -> list[PostprocessedHypothesis]:
        output, postprocessor = self._output, self._postprocessor
        assert output is not None
        assert postprocessor is not None
        # The frame may have been in the queue when its camera was made inactive.
        if hypothesis.camera not in output.cameras(self._cameras):
            return []
        published = postprocessor.process_hypothesis(hypothesis)
        for each in published:
            self._hypotheses.publish(
                hypothesis_message(each.hypothesis, model_id=self._model_id, top_k=output.top_k)
            )
            self._classifications.publish(each.hypothesis, top_k=output.top_k)
            self._publish_events(each.events)
            self._wait_server.update(each)
        return published

    def _end_lost(self) -> None:
        """End the open events of lost cameras: nothing shows whether the actions go on."""
        postprocessor, watch = self._postprocessor, self._watch
        if postprocessor is None or watch is None:
            return
        lost = watch.lost(int(self._node.get_clock().now().nanoseconds))
        for camera in {event.camera for event in postprocessor.open_events()} & lost:
            self._end(postprocessor, camera)

    def _end(self, postprocessor: Postprocessor, camera: str | None) -> None:
        """End the open events of a camera, or of all cameras, without a hypothesis."""
        with self._lock:
            events = postprocessor.close(camera)
            self._publish_events(events)
            self._on_events(events)

    def _publish_events(self, events: Sequence[Event]) -> None:
        for event in events:
            self._events.publish(event_message(event))


def _ignore_events(_: Sequence[Event]) -> None:
    """Do nothing: no overlay shows events."""


class ClassificationPublisher:
    """Publishes each task's labels on `~/classifications/TASK`, as `vision_msgs/Classification`.

    It is for tools that do not know this package's messages.

    Args:
        node: The node.
        depth: Messages queued for a slow subscriber.
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

    def publish(self, hypothesis: Hypothesis, *, top_k: int) -> None:
        """Publish a hypothesis, one message for each task; do nothing without `vision_msgs`."""
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
        """Create a publisher for each of these tasks, and destroy all others."""
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
