# SPDX-License-Identifier: Apache-2.0
"""The client of a perception node: subscribes to its topics and hands each message to a callback.

perception node                    PerceptionClient           user of the client
<node>/hypotheses  --------------> on_hypothesis              `step_ros watch`
<node>/events      --------------> on_event                   `step_ros demo`
<node>/model_info  (latched) ----> on_model_info              `step_ros bench node`, `soak`
/diagnostics       (all nodes) --> on_statuses (this node)    `step_ros replay --online`
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image

from step_ros.evaluation.ground_truth import Observation, TaskPrediction
from step_ros.files import Closing
from step_ros.msg import ActionEvent, ActionHypothesis, ModelInfo
from step_ros.ros.conversion import to_nanoseconds
from step_ros.ros.qos import LATCHED, NO_SUBSCRIPTION_EVENTS, match_offered
from step_ros.ros.spinning_node import SpinningNode

# Hundreds of hypotheses may come in a second while a client on a busy machine sleeps.
QUEUE_DEPTH = 1000
DIAGNOSTICS = '/diagnostics'
# Seconds between two comparisons of the subscriptions with the publishers.
MATCH_PERIOD = 0.5
# Deep enough that a late client still gets every true label of a recording.
_TRUTH_QOS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True, kw_only=True)
class PerceptionTopics:
    """The topics of a perception node, and its names in `/diagnostics`.

    Attributes:
        hypotheses: Topic of the hypotheses.
        events: Topic of the events; empty if it is unknown.
        model_info: Topic of the model info; empty if it is unknown.
        names: Names by which the node's statuses begin, for example `/perception`.
    """

    hypotheses: str
    events: str = ''
    model_info: str = ''
    names: frozenset[str]

    @classmethod
    def of_node(cls, name: str) -> 'PerceptionTopics':
        """Return the topics of a node that is not remapped.

        Args:
            name: Full name of the node, for example `/perception`.
        """
        return cls(
            hypotheses=f'{name}/hypotheses',
            events=f'{name}/events',
            model_info=f'{name}/model_info',
            names=frozenset({name}),
        )


class _MatchingSubscription:
    """A subscription that asks for what the publishers offer, also when they change.

    A reliable subscription receives nothing from a best-effort publisher, such as a remapped relay
    or a node with QoS overrides, and gives no sign of it.

    Args:
        node: The ROS node that subscribes.
        message_type: Type of the messages.
        topic: The topic.
        callback: Takes each message.
        wanted: The profile if all publishers fit.
        raw: Whether the callback takes the serialised bytes.
    """

    def __init__(
        self,
        node: Node,
        message_type: type,
        topic: str,
        callback: Callable[..., None],
        wanted: QoSProfile,
        *,
        raw: bool,
    ) -> None:
        self._node, self._wanted = node, wanted
        self._topic = node.resolve_topic_name(topic)
        self._subscribe: Callable[[QoSProfile], Subscription] = lambda profile: (
            node.create_subscription(
                message_type,
                topic,
                callback,
                profile,
                raw=raw,
                event_callbacks=NO_SUBSCRIPTION_EVENTS,
            )
        )
        self._profile = self._matching()
        self.subscription = self._subscribe(self._profile)

    def match(self) -> None:
        """Subscribe again if the publishers offer something else than before."""
        profile = self._matching()
        if profile == self._profile:
            return
        self._profile = profile
        # Destroyed before: no message may come twice.
        self._node.destroy_subscription(self.subscription)
        self.subscription = self._subscribe(profile)

    def _matching(self) -> QoSProfile:
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        return match_offered(self._wanted, [each.qos_profile for each in publishers])


class PerceptionClient(Closing):
    """Hands what a perception node publishes to callbacks.

    Subscriptions match the reliability and durability that the publishers offer.

    Subscribe, then start. A client that made its ROS node runs the callbacks in a thread of its
    own. On a ROS node of the caller, the callbacks run wherever the caller spins that node.

    Args:
        node: Name of the ROS node to make; or a ROS node that the caller spins and destroys.

    Attributes:
        node: The ROS node that subscribes.
    """

    def __init__(self, node: str | Node) -> None:
        self._spinning = SpinningNode(node) if isinstance(node, str) else None
        self.node: Node = self._spinning.node if self._spinning is not None else node
        self._subscriptions: list[_MatchingSubscription] = []
        # Those that only the perception node publishes, unlike `/diagnostics`.
        self._own_topics: list[_MatchingSubscription] = []
        # By the steady clock: publishers come and go while simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        ros_node: Node = self.node
        self._timer: Any = ros_node.create_timer(MATCH_PERIOD, self._match, clock=steady)
        self._closed = False

    def subscribe(
        self,
        topics: PerceptionTopics,
        *,
        on_hypothesis: Callable[[ActionHypothesis], None] | None = None,
        on_serialised_hypothesis: Callable[[bytes], None] | None = None,
        on_event: Callable[[ActionEvent], None] | None = None,
        on_model_info: Callable[[ModelInfo], None] | None = None,
        on_statuses: Callable[[int, list[DiagnosticStatus]], None] | None = None,
        depth: int = QUEUE_DEPTH,
        diagnostics_depth: int = QUEUE_DEPTH,
    ) -> None:
        """Subscribe to the topics that have a callback.

        Args:
            topics: Topics of the perception node. A topic without a name is left out.
            on_hypothesis: Takes each hypothesis.
            on_serialised_hypothesis: Takes each hypothesis as bytes, for clients that measure:
                deserialising can wait until after the measurement.
            on_event: Takes each event.
            on_model_info: Takes the model info. It is latched: a late client gets it, too.
            on_statuses: Takes the time of the diagnostics in ns, by the node's clock, and the
                statuses of this node; diagnostics without any are left out.
            depth: Hypotheses, and events, that may wait for their callback.
            diagnostics_depth: Diagnostics that may wait for their callback.
        """
        if on_hypothesis is not None:
            self._subscribe_own(ActionHypothesis, topics.hypotheses, on_hypothesis, depth)
        if on_serialised_hypothesis is not None:
            self._subscribe_own(
                ActionHypothesis, topics.hypotheses, on_serialised_hypothesis, depth, raw=True
            )
        if on_event is not None and topics.events:
            self._subscribe_own(ActionEvent, topics.events, on_event, depth)
        if on_model_info is not None and topics.model_info:
            self._subscribe_own(ModelInfo, topics.model_info, on_model_info, LATCHED)
        if on_statuses is not None:

            def filter_statuses(message: DiagnosticArray) -> None:
                own = [
                    status
                    for status in message.status
                    if status.name.partition(': ')[0] in topics.names
                ]
                if own:
                    on_statuses(to_nanoseconds(message.header.stamp), own)

            self._subscribe(DiagnosticArray, DIAGNOSTICS, filter_statuses, diagnostics_depth)

    def subscribe_camera(
        self,
        *,
        image_topic: str,
        on_image: Callable[[Image], None],
        truth_topic: str,
        on_truth: Callable[[ActionEvent], None],
    ) -> None:
        """Subscribe to the raw images and the true labels of a camera node.

        Args:
            image_topic: Topic of the images: best effort, as sensors publish.
            on_image: Takes each image.
            truth_topic: Topic of the true labels. They are latched: a late client gets them, too.
            on_truth: Takes the start or the end of each true label.
        """
        self._subscribe(ActionEvent, truth_topic, on_truth, _TRUTH_QOS)
        self._subscribe(Image, image_topic, on_image, qos_profile_sensor_data)

    def start(self) -> None:
        """Begin to run the callbacks in the client's thread; only for a client with its own node.

        Raises:
            RuntimeError: The ROS node is the caller's.
        """
        if self._spinning is None:
            raise RuntimeError(
                f'{self.node.get_name()} is the ROS node of the caller, who must spin it'
            )
        self._spinning.start()

    def connected(self) -> bool:
        """Whether every subscribed topic of the perception node has a publisher."""
        return all(each.subscription.get_publisher_count() for each in self._own_topics)

    def close(self) -> None:
        """End the subscriptions, and the client's own ROS node and thread if it made them.

        The caller must not spin its own ROS node meanwhile.
        """
        if self._closed:
            return
        self._closed = True
        if self._spinning is not None:
            self._spinning.close()
            return
        self.node.destroy_timer(self._timer)
        for each in self._subscriptions:
            self.node.destroy_subscription(each.subscription)

    def _match(self) -> None:
        for each in self._subscriptions:
            each.match()

    def _subscribe_own(
        self,
        message_type: type,
        topic: str,
        callback: Callable[..., None],
        qos: QoSProfile | int,
        *,
        raw: bool = False,
    ) -> None:
        self._own_topics.append(self._subscribe(message_type, topic, callback, qos, raw=raw))

    def _subscribe(
        self,
        message_type: type,
        topic: str,
        callback: Callable[..., None],
        qos: QoSProfile | int,
        *,
        raw: bool = False,
    ) -> _MatchingSubscription:
        wanted = QoSProfile(depth=qos) if isinstance(qos, int) else qos
        subscription = _MatchingSubscription(
            self.node, message_type, topic, callback, wanted, raw=raw
        )
        self._subscriptions.append(subscription)
        return subscription


def status_part(status: DiagnosticStatus) -> str:
    """Return what a status of the node is about: the name of a camera, `model` or `node`."""
    return str(status.name.partition(': ')[2])


def to_observation(message: ActionHypothesis, arrival_ns: int) -> Observation:
    """Return a hypothesis message as a record of its best labels.

    Args:
        message: The hypothesis.
        arrival_ns: When it arrived, by the clock of the stamps.
    """
    return Observation(
        camera=message.camera,
        window_start_ns=to_nanoseconds(message.window_start),
        stamp_ns=to_nanoseconds(message.header.stamp),
        arrival_ns=arrival_ns,
        node_latency_ns=to_nanoseconds(message.latency),
        predictions={
            task.task: TaskPrediction(
                label=task.labels[0],
                score=task.scores[0],
                counterpart=task.counterpart,
                counterpart_score=task.counterpart_score,
                order_evidence=task.order_evidence,
            )
            for task in message.tasks
        },
    )
