# SPDX-License-Identifier: Apache-2.0
"""Finds the perception nodes on the ROS graph and follows one of them, for `step_ros watch`."""

import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.node import Node

from step_ros.files import Closing
from step_ros.msg import ActionEvent, ActionHypothesis
from step_ros.ros.clients.perception_client import QUEUE_DEPTH, PerceptionClient, PerceptionTopics

HYPOTHESIS_TYPE, EVENT_TYPE = 'step_ros/msg/ActionHypothesis', 'step_ros/msg/ActionEvent'
# Hypotheses over which the rate is measured.
_RECENT = 50
# Diagnostics that may wait for the callback.
_DIAGNOSTICS_DEPTH = 50
# Seconds between two requests for the node's lifecycle state.
STATE_PERIOD = 0.5
# Statuses by severity.
LEVELS = {
    DiagnosticStatus.OK: 'ok',
    DiagnosticStatus.WARN: 'warning',
    DiagnosticStatus.ERROR: 'error',
    DiagnosticStatus.STALE: 'stale',
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A topic of hypotheses with one of its publishers.

    Attributes:
        topic: The topic of the hypotheses.
        node: Full name of the node that publishes it.
        events: The topic of the node's events; empty if there is none.
    """

    topic: str
    node: str
    events: str = ''


@dataclass(kw_only=True)
class CameraView:
    """The newest messages about one camera.

    Attributes:
        newest: The newest hypothesis.
        arrivals_ns: Arrival times of the last hypotheses, by the monotonic clock.
        open_events: Labels that have started and not ended, by task. Events that started before
            the watch are unknown.
    """

    newest: ActionHypothesis | None = None
    arrivals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))
    open_events: dict[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Hypotheses per second, recently; 0 while there are fewer than two."""
        if len(self.arrivals_ns) < 2:
            return 0.0
        # Up to now, not to the last arrival: the rate must fall when no hypothesis comes any more.
        seconds = (time.monotonic_ns() - self.arrivals_ns[0]) / 1e9
        return len(self.arrivals_ns) / seconds

    def copy(self) -> 'CameraView':
        """Return a copy that later messages do not change."""
        return CameraView(
            newest=self.newest,
            arrivals_ns=deque(self.arrivals_ns),
            open_events=dict(self.open_events),
        )


class Watcher(Closing):
    """Follows a perception node in a thread of its own; any other thread may ask for the results.

    Attributes:
        node: The ROS node that subscribes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cameras: dict[str, CameraView] = {}
        self._statuses: dict[str, DiagnosticStatus] = {}
        self._waiting: deque[ActionHypothesis | ActionEvent] = deque(maxlen=QUEUE_DEPTH)
        self._source: Source | None = None
        self._get_state: Any = None
        self._state_request: Any = None
        self._requested_at = 0.0
        self._state: Any = None
        self._client = PerceptionClient(f'step_ros_watch_{os.getpid()}')
        self.node: Node = self._client.node
        # Already now: `find` needs the graph.
        self._client.start()

    def close(self) -> None:
        """End the subscriptions."""
        self._client.close()

    def find(self) -> list[Source]:
        """Return the publishers of hypotheses at present, by topic and node."""
        types = dict(self.node.get_topic_names_and_types())
        hypothesis_topics = [topic for topic, kinds in types.items() if HYPOTHESIS_TYPE in kinds]
        event_topics = [topic for topic, kinds in types.items() if EVENT_TYPE in kinds]
        event_publishers = [
            (topic, node) for topic in event_topics for node in self._publishers(topic)
        ]
        sources = []
        for topic in hypothesis_topics:
            for node in self._publishers(topic):
                own = [name for name, publisher in event_publishers if publisher == node]
                # A node may publish other events, too: prefer the topic beside the hypotheses.
                beside = f'{topic.rpartition("/")[0]}/events'
                events = beside if beside in own else own[0] if len(own) == 1 else ''
                sources.append(Source(topic=topic, node=node, events=events))
        return sorted(sources, key=lambda source: (source.topic, source.node))

    def listen(self, source: Source) -> None:
        """Subscribe to a node's hypotheses, events and diagnostics."""
        self._source = source
        self._client.subscribe(
            PerceptionTopics(
                hypotheses=source.topic,
                events=source.events,
                # A bag player publishes under its own name what the node said under another.
                names=frozenset({source.node, source.topic.rpartition('/')[0]}),
            ),
            on_hypothesis=self._on_hypothesis,
            on_event=self._on_event,
            on_statuses=self._on_statuses,
            diagnostics_depth=_DIAGNOSTICS_DEPTH,
        )
        self._get_state = self.node.create_client(GetState, f'{source.node}/get_state')

    def take(self) -> list[ActionHypothesis | ActionEvent]:
        """Return the messages since the last call, in the order of their arrival."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        return waiting

    def cameras(self) -> dict[str, CameraView]:
        """Return the newest messages about each camera, by its name."""
        with self._lock:
            return {name: self._cameras[name].copy() for name in sorted(self._cameras)}

    def diagnostics(self) -> list[DiagnosticStatus]:
        """Return the newest statuses of the node."""
        with self._lock:
            return list(self._statuses.values())

    def silence(self) -> str:
        """Return why the node may be silent; empty if no reason is known, or before `listen`."""
        source = self._source
        if source is None:
            return ''
        if not self._publishers(source.topic):
            return f'no publisher on {source.topic}: has the node {source.node} ended?'
        state = self._lifecycle_state()
        if state is not None and state.id != State.PRIMARY_STATE_ACTIVE:
            wanted = 'configure' if state.id == State.PRIMARY_STATE_UNCONFIGURED else 'activate'
            return (
                f'the node {source.node} is {state.label}: '
                f'ros2 lifecycle set {source.node} {wanted}'
            )
        return ''

    def _publishers(self, topic: str) -> list[str]:
        """Return the full names of the known nodes that publish a topic."""
        found = {
            f'{info.node_namespace.rstrip("/")}/{info.node_name}'
            for info in self.node.get_publishers_info_by_topic(topic)
            # The graph finds a publisher before it finds the name of its node.
            if not info.node_name.startswith('_NODE_NAME_UNKNOWN')
        }
        return sorted(found)

    def _lifecycle_state(self) -> Any:
        """Return the node's state from the last response; None before the first."""
        if self._state_request is not None and self._state_request.done():
            self._state = self._state_request.result().current_state
            self._state_request = None
        # Request again even if a response is due: it is lost if it comes before discovery ends.
        due = time.monotonic() - self._requested_at > STATE_PERIOD
        if due and self._get_state.service_is_ready():
            self._state_request = self._get_state.call_async(GetState.Request())
            self._requested_at = time.monotonic()
        return self._state

    def _on_hypothesis(self, message: ActionHypothesis) -> None:
        with self._lock:
            camera = self._cameras.setdefault(message.camera, CameraView())
            camera.newest = message
            camera.arrivals_ns.append(time.monotonic_ns())
            self._waiting.append(message)

    def _on_event(self, message: ActionEvent) -> None:
        with self._lock:
            camera = self._cameras.setdefault(message.camera, CameraView())
            if message.type == ActionEvent.START:
                camera.open_events[message.task] = message.label
            else:
                camera.open_events.pop(message.task, None)
            self._waiting.append(message)

    def _on_statuses(self, _stamp_ns: int, statuses: list[DiagnosticStatus]) -> None:
        with self._lock:
            self._statuses |= {status.name: status for status in statuses}


def choose_source(found: list[Source], wanted: str) -> tuple[Source | None, str]:
    """Return the source that the user means.

    Args:
        found: All publishers of hypotheses.
        wanted: Full name of a node, or a topic of hypotheses; empty for the only source.

    Returns:
        The source and an empty text; or None and the reason.
    """
    name = wanted if wanted.startswith('/') else f'/{wanted}'
    topic = f'{name}/hypotheses'
    matches = found
    if wanted:
        matches = [each for each in found if each.node == name] or [
            each for each in found if each.topic in (name, topic)
        ]
    if len(matches) == 1:
        return matches[0], ''
    if matches:
        nodes = [source.node for source in matches]
        names = [each.node if nodes.count(each.node) == 1 else each.topic for each in matches]
        listed = '\n'.join(
            f'  --node {name}    ({source.topic} from {source.node})'
            for name, source in zip(names, matches, strict=True)
        )
        return None, f'several nodes publish hypotheses; choose one:\n{listed}'
    if not wanted:
        return None, f'no publisher of {HYPOTHESIS_TYPE}: is a perception node running?'
    others = ', '.join(source.node for source in found)
    return None, f'no publisher on {topic}: is the node running?' + (
        f' There are: {others}' if others else ''
    )
