"""`vision_msgs/Classification` beside our own messages, where `vision_msgs` is installed."""

from typing import Any

from rclpy.lifecycle import LifecycleNode

from step_ros.ros.conversion import to_time
from step_ros.ros.qos import NO_PUBLISHER_EVENTS
from step_ros.ros.topics import topic_part
from step_ros.stream.hypothesis import Hypothesis


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
